"""The last gate: the finished callable and the original, interleaved end to end on the example inputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from tpopt._compile.bounds import allows_original, nothing_within, original_bytes, problems, weights_of
from tpopt._compile.check import verify_plan
from tpopt._compile.next_best import MOST
from tpopt._compile.untouched import same_values
from tpopt.backend.machine import synchronizer
from tpopt.measure import Call, Stopwatch, Timings, interleave
from tpopt.report import ResultRow

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt, Built

ROUNDS = 15
_NEXT = "faster end to end than the original, and than the plan whose kernels take the least time one by one"
_REASONS = {
    **{f"next {n}": _NEXT for n in range(1, MOST + 1)},
    "plan": "faster end to end than the original",
    "in order": "faster end to end than the original; values lie in order that the cheapest plan leaves transposed",
    "libraries": "faster end to end than the original, with library kernels alone faster than with generated ones",
    "plain": "the original operators in one plan; no other cover was faster end to end",
    "exact": "faster end to end than the original; nothing that the budget admits was faster than the exact plan",
}
ENOUGH_ROUNDS = 9
"""Rounds after which a race without a doubt ends (two samples of 9 are apart by chance once in 24,310)."""
APART = 1.05
"""Every sample of the winner is faster than any sample of another by this factor where there is no doubt."""
SETTLE_S = 0.005
"""Seconds between turns: all contestants run on torch's own threads, which need no time to fall asleep."""


def race(attempt: Attempt, built: Built) -> ResultRow:
    """``optimized`` when the whole 95 % interval of original time over plan time lies above 1.

    Where the smallest program within a bound on time is sought, one with fewer bytes than the original is enough.
    The original is the user's model as it was called before, without the door that a compiled one is called through.
    Its rivals run too (plans of original operators alone, of libraries alone, in order, next to the cheapest; beside an
    approximate plan the exact one, and those without one of its families): where one of them beats the chosen plan, it
    takes its place.
    """
    budget = max(2.0, min(20.0, attempt.deadline - time.perf_counter()))
    runners = {"plan": built, **built.rivals}
    contestants: dict[str, Call] = {"original": lambda: attempt.model(*attempt.args, **attempt.kwargs)}
    for name, runner in runners.items():
        contestants[name] = lambda call=runner.callable: call(*attempt.args, **attempt.kwargs)  # type: ignore[misc]
    with torch.no_grad(), same_values(attempt, built.state):
        timings = interleave(
            contestants,
            rounds=ROUNDS,
            stopwatch=Stopwatch(settle_s=SETTLE_S, synchronize=synchronizer(built.specialization.guard.device)),
            budget_s=budget,
            enough=_decided,
        )
    broken = {name: problems(attempt, runner, runners.get("plain")) for name, runner in runners.items()}
    within = [name for name in runners if not broken[name]]
    if not within:
        raise nothing_within(attempt, min(broken.values(), key=len))
    best = _winner(attempt, {name: runners[name] for name in within}, {n: 1e3 * timings.median(n) for n in within})
    ratio = timings.ratio("original", best, seed=attempt.options.seed)
    figures = {"speedup": ratio.median, "low": ratio.low, "high": ratio.high}
    smaller = _seeks_smallest(attempt) and _weights(runners[best]) < original_bytes(attempt)
    if ratio.low <= 1.0 and not smaller and allows_original(attempt, 1e3 * timings.median("original")):
        return ResultRow(
            status="original", reason="the optimized program was not certainly faster end to end", **figures
        )
    attempt.built = winner = runners[best]
    attempt.choice, attempt.verification = winner.choice, winner.verification
    if winner.verification is None and attempt.options.verify:
        verify_plan(attempt, winner.specialization, winner.state)
    reason = _REASONS.get(best, _REASONS["plan"])
    if ratio.low <= 1.0:
        reason = "the smallest within the bound on time" if smaller else "within the budget, which the original is not"
    return ResultRow(status="optimized", reason=reason, **figures)


def _decided(timings: Timings) -> bool:
    """Whether nobody doubts who is the fastest."""
    samples = sorted(timings.seconds.values(), key=min)
    first, others = samples[0], samples[1:]
    return len(first) >= ENOUGH_ROUNDS and all(max(first) * APART < min(other) for other in others)


def _winner(attempt: Attempt, runners: dict[str, Built], ms: dict[str, float]) -> str:
    """The fastest; under a bound on time with none on bytes, the smallest within it."""
    fastest, most = min(runners, key=lambda n: ms[n]), attempt.budget.latency_ms
    if most is None:
        return fastest
    if ms[fastest] > most:
        raise nothing_within(attempt, [f"a call takes {ms[fastest]:.4g} ms"])
    if not _seeks_smallest(attempt):
        return fastest
    return min((n for n in runners if ms[n] <= most), key=lambda n: _weights(runners[n]))


def _seeks_smallest(attempt: Attempt) -> bool:
    return attempt.budget.latency_ms is not None and attempt.budget.weights_bytes is None


def _weights(runner: Built) -> int:
    return weights_of(runner.plan, runner.specialization.binder.weights)
