"""The last gate: the finished callable and the original, interleaved end to end on the example inputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tpopt.measure import interleave, ratio_interval
from tpopt.report import ResultRow
from tpopt.runtime.eager import EagerCallable

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt, Built

ROUNDS = 15
SAMPLE_SECONDS = 0.01


def race(attempt: Attempt, built: Built) -> ResultRow:
    """``optimized`` when the whole 95 % interval of original time over plan time lies above 1."""
    eager = EagerCallable(attempt.model)
    budget = max(2.0, min(20.0, attempt.deadline - time.perf_counter()))
    contestants = {
        "original": lambda: eager(*attempt.args, **attempt.kwargs),
        "plan": lambda: built.callable(*attempt.args, **attempt.kwargs),
    }
    samples = interleave(contestants, rounds=ROUNDS, sample_seconds=SAMPLE_SECONDS, budget_seconds=budget)
    ratio = ratio_interval(samples["original"], samples["plan"], attempt.options.seed)
    figures = {"speedup": ratio.median, "low": ratio.low, "high": ratio.high}
    if ratio.low > 1.0:
        return ResultRow(status="optimized", reason="faster end to end than the original", **figures)
    return ResultRow(status="original", reason="the optimized program was not certainly faster end to end", **figures)
