from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from tpopt.backend import profile
from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.profile import Profiler

X = torch.arange(6.0)


def profiler(**values: torch.Tensor) -> Profiler:
    return Profiler({"x": X, **values}, Binder({"w": torch.ones(6)}))


def call(function: Any, *reads: str, out: str = "y") -> Call:
    return Call("call", function, tuple(map(Ref, reads)), (), (out,))


def test_what_a_call_makes_is_at_hand_for_the_next():
    made = profiler()
    assert not made.has("y")
    assert made.run(call(torch.add, "x", "w")) is None
    assert made.has("y")
    assert made.run(call(torch.neg, "y", out="z")) is None
    made.release(["y", "never"])
    assert [made.has(n) for n in ("x", "w", "y", "z")] == [True, True, False, True]


def test_the_first_value_stays():
    made = profiler(y=X)
    before = made._value("y")
    assert made.run(call(torch.clone, "x")) is None
    assert made._value("y") is before


def test_a_rewound_profiler_has_what_it_was_given_even_if_that_was_released():
    made = profiler()
    assert made.run(call(torch.neg, "x")) is None
    made.release(["x"])
    made.rewind()
    assert [made.has(n) for n in ("x", "y")] == [True, False]


def test_it_remembers_how_values_lie_that_are_not_contiguous():
    made = profiler(m=torch.ones(2, 3).t())
    assert made.run(call(lambda m: m * 2, "m")) is None
    assert made.run(call(lambda m: m.contiguous(), "m", out="z")) is None
    made.release(["m", "y", "z"])
    assert {n: v.stride() for n, v in made.strided.items()} == {"m": (1, 3), "y": (1, 3)}
    assert {v.device.type for v in made.strided.values()} == {"meta"}


def raises(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no such kernel\nsecond line")


REFUSED = [
    (raises, "RuntimeError: no such kernel"),
    (lambda x: x[:3], "yields y as (3,) torch.float32, expected (6,) torch.float32"),
    (lambda x: x.double(), "yields y as (6,) torch.float64, expected (6,) torch.float32"),
    (lambda x: x + 1, "yields other numbers for y: L2 norm 7.4e+00, difference 2.4e+00"),
]


@pytest.mark.parametrize(("function", "reason"), REFUSED)
def test_a_call_that_yields_something_else_is_refused_with_the_reason(function: Any, reason: str):
    made = profiler(y=X)
    assert made.run(call(function, "x")) == reason
    assert torch.equal(made._value("y"), X)


@pytest.mark.parametrize("known", [X, X.to(torch.complex64), torch.tensor([float("nan"), 1.0, float("inf")]), X.long()])
def test_differences_of_rounding_are_left_to_verification(known: torch.Tensor):
    made = Profiler({"x": known, "y": known}, Binder({}))
    scale = (1 + 1e-3) if known.dtype is not torch.int64 else 1
    assert made.run(call(lambda x: x * scale, "x")) is None


def test_times_are_medians_in_microseconds():
    figures = profiler().measure({"a": call(torch.neg, "x")}, deadline=0.0)
    us, low, high, rounds = figures["a"]
    assert low <= us <= high
    assert rounds == 3  # the time is used up: three rounds whatever they cost


@pytest.mark.parametrize(("between", "kept"), [(1 << 20, 0), (1 << 23, 1 << 23)])
def test_constants_of_a_small_model_stay_in_the_caches(between: int, kept: int):
    assert Profiler({}, Binder({}), between=between).between == kept


def test_what_streams_its_constants_is_called_once_a_round_and_in_turns():
    seen: list[str] = []

    def noted(name: str) -> Any:
        def run(x: torch.Tensor) -> torch.Tensor:
            seen.append(name)
            return x + 1

        return run

    made = Profiler({"x": X}, Binder({}), between=1 << 23)
    figures = made.measure({"a": call(noted("a"), "x"), "b": call(noted("b"), "x")}, streaming={"a", "b"})
    assert figures["a"][3] == figures["b"][3] == profile.ROUNDS
    rounds = seen[-2 * profile.ROUNDS :]
    assert all({*rounds[k : k + 2]} == {"a", "b"} for k in range(0, len(rounds), 2))
    assert len(seen) <= 2 * (profile.ROUNDS + profile.TRIES)


class Copies:
    """A kernel that notes where it wrote."""

    def __init__(self) -> None:
        self.places: set[int] = set()

    def prepare(self) -> None:
        """Nothing to do."""

    def fresh(self) -> list[Any]:
        return [lambda: torch.empty(6)]

    def at(self, args: Any) -> Any:
        return self.write

    def write(self, x: torch.Tensor, out: torch.Tensor) -> None:
        self.places.add(out.data_ptr())
        out.copy_(x)


def test_a_kernel_that_writes_where_it_is_told_is_timed_without_allocations():
    made = Copies()
    profiler().measure({"copy": Call("copy", raises, (Ref("x"),), (), ("y",), into=made)})
    assert len(made.places) == 1


def test_what_is_hopelessly_slow_is_called_a_few_times_alone():
    calls = 0

    def slow(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        time.sleep(0.05)
        return x

    found = profiler().measure({"fast": call(torch.clone, "x"), "slow": call(slow, "x")})
    assert (calls, found["slow"][3]) == (profile.TRIES, 1)
    assert found["slow"][0] > 40_000 > found["fast"][0]
    assert found["fast"][3] > 1


def test_one_interruption_makes_nobody_hopeless():
    calls = 0

    def interrupted(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        time.sleep(0.05 if calls == 1 else 0)
        return x

    found = profiler().measure({"fast": call(torch.clone, "x"), "interrupted": call(interrupted, "x")})
    assert found["interrupted"][3] > 1


def test_one_that_computes_more_is_compared_with_nobody():
    def long(x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.005)
        return x * 3

    twice = profiler(t=X * 2)
    found = twice.measure({"last": call(torch.add, "t", "x"), "all": call(long, "x")})
    assert found["all"][3] > 1
