"""Interleaved rounds: every contestant runs in every round, in rotated order, so that drift hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Samples: TypeAlias = dict[str, list[float]]
"""Seconds of one call, by contestant, one figure a round."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A median with a bootstrap 95 % interval."""

    median: float
    low: float
    high: float


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    sample_seconds: float = 0.02,
    budget_seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Samples:
    """Times every contestant ``rounds`` times; a sample repeats a call until it lasts ``sample_seconds``.

    ``budget_seconds`` ends the rounds early, but never before three.
    """
    repeats = {name: _repeats(call, sample_seconds, clock) for name, call in contestants.items()}
    samples: Samples = {name: [] for name in contestants}
    names, start = list(contestants), clock()
    for number in range(rounds):
        turn = number % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            call, count = contestants[name], repeats[name]
            begin = clock()
            for _ in range(count):
                call()
            samples[name].append((clock() - begin) / count)
        if budget_seconds is not None and number >= 2 and clock() - start > budget_seconds:
            break
    return samples


def _repeats(call: Callable[[], object], sample_seconds: float, clock: Callable[[], float]) -> int:
    call()
    begin = clock()
    call()
    once = max(clock() - begin, 1e-7)
    return max(1, round(sample_seconds / once))


def median_interval(samples: list[float], seed: int = 0) -> Interval:
    """Median of samples with its bootstrap interval."""
    return _bootstrap(np.asarray(samples), seed)


def ratio_interval(numerator: list[float], denominator: list[float], seed: int = 0) -> Interval:
    """Median over rounds of ``numerator / denominator`` (of the same round) with its bootstrap interval."""
    return _bootstrap(np.asarray(numerator) / np.asarray(denominator), seed)


def _bootstrap(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], seed: int) -> Interval:
    picks = np.random.default_rng(seed).integers(0, len(values), size=(_RESAMPLES, len(values)))
    medians = np.median(values[picks], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Interval(float(np.median(values)), float(low), float(high))
