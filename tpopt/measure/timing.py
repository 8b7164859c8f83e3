"""Interleaved timing: every contestant has a turn in every round, so that the machine's moods fall on all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

Call = Callable[[], object]

MIN_SAMPLE_S: Final = 0.02
"""Seconds that a sample lasts at least; shorter calls are repeated. A scheduler's slice is a few milliseconds."""
SETTLE_S: Final = 0.05
"""Seconds of rest before a turn: by then the idle threads of the contestant before have stopped spinning.

After 5 ms those of ONNX Runtime still spin, and made whoever came next take twice its time."""
MIN_ROUNDS: Final = 3
RESAMPLES: Final = 2000
"""Bootstrap resamples: the ends of a 95 % interval then rest on fifty of them each."""


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, with its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"median": self.median, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Timings:
    """Seconds of one call, by contestant and round."""

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Returns the median over the rounds, in seconds."""
        return float(np.median(self.seconds[name]))

    def ratio(self, numerator: str, denominator: str, *, seed: int = 0) -> Ratio:
        """Returns how many times as long ``numerator`` takes, compared round by round."""
        above, below = np.asarray(self.seconds[numerator]), np.asarray(self.seconds[denominator])
        return bootstrap_median(above / below, seed=seed)


def bootstrap_median(values: np.ndarray[tuple[int], np.dtype[np.float64]], *, seed: int = 0) -> Ratio:
    """Returns the median of ``values`` and its 95 % percentile interval (Efron, 1979), the same for the same seed."""
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), (0.025, 0.975))
    median = float(np.median(values))
    return Ratio(median, min(float(low), median), max(float(high), median))


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """How time is taken; tests pass a clock of their own.

    Attributes:
        clock: seconds, monotonic.
        rest: waits for a number of seconds.
        synchronize: waits until the device has done what it was asked to, or does nothing.
        min_sample_s: seconds that a sample lasts at least.
        settle_s: seconds of rest before a turn.
    """

    clock: Callable[[], float] = time.perf_counter
    rest: Callable[[float], None] = time.sleep
    synchronize: Callable[[], None] = field(default=lambda: None)
    min_sample_s: float = MIN_SAMPLE_S
    settle_s: float = SETTLE_S

    def time(self, call: Call, repetitions: int) -> float:
        """Returns the seconds that one of ``repetitions`` calls in a row takes."""
        self.synchronize()
        started = self.clock()
        for _ in range(repetitions):
            call()
        self.synchronize()
        return (self.clock() - started) / repetitions

    def repetitions(self, call: Call) -> int:
        """Returns how many calls fill a sample, judged by the faster of two."""
        once = min(self.time(call, 1), self.time(call, 1))
        return max(1, math.ceil(self.min_sample_s / once)) if once > 0 else 1000


def interleave(
    contestants: Mapping[str, Call],
    *,
    rounds: int,
    stopwatch: Stopwatch | None = None,
    budget_s: float = math.inf,
    enough: Callable[[Timings], bool] | None = None,
) -> Timings:
    """Times the contestants in ``rounds`` rounds, each in another order, so that everyone follows everyone else.

    Before each sample the contestant rests and makes one call that does not count, so that caches and thread pools are
    its own. Gradient mode and threads are the caller's. No round begins after ``budget_s`` seconds, or once what was
    timed is ``enough``, but three always do.
    """
    watch = stopwatch or Stopwatch()
    started = watch.clock()
    names = list(contestants)
    for call in contestants.values():
        call()
    repetitions = {name: watch.repetitions(call) for name, call in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        if turn >= MIN_ROUNDS and (watch.clock() - started > budget_s or (enough and enough(_timings(seconds)))):
            break
        for position in turn_order(len(names), turn):
            name = names[position]
            watch.rest(watch.settle_s)
            contestants[name]()
            seconds[name].append(watch.time(contestants[name], repetitions[name]))
    return _timings(seconds)


def _timings(seconds: Mapping[str, list[float]]) -> Timings:
    return Timings({name: tuple(samples) for name, samples in seconds.items()})


def turn_order(count: int, turn: int) -> list[int]:
    """Positions of the contestants in one round: a row of Williams' square, mirrored every other time.

    Over ``count`` rounds (twice as many where it is odd) each contestant starts equally often, and follows each other
    one equally often. Source: Williams, "Experimental designs balanced for the estimation of residual effects", 1949.
    """
    zigzag = [(k + 1) // 2 if k % 2 else -k // 2 for k in range(count)]
    row = [(step + turn) % count for step in zigzag]
    return row[::-1] if turn // count % 2 else row
