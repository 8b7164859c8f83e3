"""Interleaved timing, on a clock that only the contestants move."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpopt.measure import Stopwatch, bootstrap_median, interleave
from tpopt.measure.timing import turn_order

POSITIVE = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=25).map(np.array)


class Machine:
    """A clock, contestants that take known times on it, and a record of who ran when."""

    def __init__(self, noise: float = 0.0) -> None:
        self.now, self.noise = 0.0, noise
        self.random = np.random.default_rng(5)
        self.calls: list[str] = []

    def contestant(self, name: str, seconds: float):
        def call() -> None:
            self.calls.append(name)
            self.now += seconds * (1 + self.noise * self.random.random())

        return call

    def stopwatch(self, **fields) -> Stopwatch:
        return Stopwatch(clock=lambda: self.now, rest=lambda seconds: self.calls.append("rest"), **fields)


def test_twice_the_time_is_a_ratio_of_two():
    machine = Machine()
    contestants = {"slow": machine.contestant("slow", 0.5), "fast": machine.contestant("fast", 0.25)}
    timings = interleave(contestants, rounds=7, stopwatch=machine.stopwatch())
    assert timings.median("slow") == pytest.approx(0.5)
    assert timings.ratio("slow", "fast").to_dict() == pytest.approx({"median": 2.0, "low": 2.0, "high": 2.0})


def test_the_interval_holds_the_true_ratio_of_noisy_contestants():
    machine = Machine(noise=0.3)
    contestants = {"slow": machine.contestant("slow", 0.5), "fast": machine.contestant("fast", 0.25)}
    ratio = interleave(contestants, rounds=25, stopwatch=machine.stopwatch()).ratio("slow", "fast")
    assert ratio.low < 2.0 < ratio.high
    assert ratio.high - ratio.low < 0.4


def test_noise_that_falls_on_whole_rounds_cancels():
    machine = Machine()
    loads = iter([1, 1, 1, 9, 9, 2, 2, 5, 5])  # two warm-ups and probes aside, a load for each round
    load = [1.0]

    def work(seconds: float):
        def call() -> None:
            machine.now += seconds * load[0]

        return call

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) % 2:
            load[0] = next(loads)

    rests: list[float] = []
    watch = Stopwatch(clock=lambda: machine.now, rest=rest)
    timings = interleave({"slow": work(0.3), "fast": work(0.1)}, rounds=9, stopwatch=watch)
    assert max(timings.seconds["slow"]) == pytest.approx(9 * 0.3)
    assert timings.ratio("slow", "fast").to_dict() == pytest.approx({"median": 3.0, "low": 3.0, "high": 3.0})


def test_every_round_starts_with_another_contestant_and_every_turn_rests_and_warms_up():
    machine = Machine()
    contestants = {name: machine.contestant(name, 1.0) for name in "abc"}
    interleave(contestants, rounds=3, stopwatch=machine.stopwatch())
    turns = "".join(machine.calls).split("rest")[1:]
    assert turns == ["aa", "bb", "cc", "bb", "cc", "aa", "cc", "aa", "bb"]


@pytest.mark.parametrize(("count", "rounds"), [(2, 2), (3, 6), (4, 4), (5, 10), (6, 6)])
def test_over_the_rounds_everyone_starts_and_follows_everyone_else_equally_often(count: int, rounds: int):
    orders = [turn_order(count, turn) for turn in range(rounds)]
    followed = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert Counter(order[0] for order in orders) == dict.fromkeys(range(count), rounds // count)
    assert followed == dict.fromkeys(itertools.permutations(range(count), 2), rounds // count)


def test_rounds_end_when_what_was_timed_is_enough():
    machine, seen = Machine(), []
    contestants = {"slow": machine.contestant("slow", 0.5), "fast": machine.contestant("fast", 0.25)}
    timings = interleave(
        contestants, rounds=15, stopwatch=machine.stopwatch(), enough=lambda t: seen.append(t) or len(seen) == 3
    )
    assert [len(t.seconds["fast"]) for t in seen] == [3, 4, 5]
    assert len(timings.seconds["slow"]) == 5


def test_short_calls_are_repeated_until_a_sample_is_long_enough():
    machine = Machine()
    watch = machine.stopwatch(min_sample_s=0.02)
    timings = interleave({"short": machine.contestant("short", 0.003)}, rounds=1, stopwatch=watch)
    turn = machine.calls[machine.calls.index("rest") + 1 :]
    assert len(turn) == 1 + 7
    assert timings.median("short") == pytest.approx(0.003)


def test_a_sample_ends_when_the_device_is_done():
    machine = Machine()
    pending = [0.0]

    def launch() -> None:
        pending[0] += 0.5

    def synchronize() -> None:
        machine.now, pending[0] = machine.now + pending[0], 0.0

    timings = interleave({"kernel": launch}, rounds=2, stopwatch=machine.stopwatch(synchronize=synchronize))
    assert timings.seconds["kernel"] == pytest.approx((0.5, 0.5))


@given(POSITIVE)
def test_an_interval_holds_the_median_and_stays_within_the_values(values):
    ratio = bootstrap_median(values)
    assert values.min() <= ratio.low <= ratio.median <= ratio.high <= values.max()
    assert ratio.median == np.median(values)


@given(POSITIVE, st.sampled_from([0.5, 2.0, 4.0]))
def test_an_interval_scales_with_its_values(values, factor):
    plain, scaled = bootstrap_median(values, seed=3), bootstrap_median(values * factor, seed=3)
    assert (scaled.low, scaled.high) == (plain.low * factor, plain.high * factor)


def test_an_interval_narrows_with_the_rounds_and_depends_on_the_seed_alone():
    values = np.random.default_rng(0).normal(2.0, 0.2, 400)
    few, many = bootstrap_median(values[:16], seed=1), bootstrap_median(values, seed=1)
    assert many.high - many.low < (few.high - few.low) / 2
    assert many == bootstrap_median(values, seed=1)
    assert many != bootstrap_median(values, seed=2)
