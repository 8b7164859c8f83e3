"""The bounds of a budget on memory and time: what a plan takes of them, and what to say where none is within."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpopt.choose.candidate import Candidate, Candidates
from tpopt.choose.solve import Holding
from tpopt.errors import LimitExceeded
from tpopt.ir.walk import stage_reads

if TYPE_CHECKING:
    import torch

    from tpopt._compile.attempt import Attempt, Built
    from tpopt.backend.plan import Plan


def original_bytes(attempt: Attempt) -> int:
    """Bytes of the model's own weights and buffers; tied weights count once."""
    assert attempt.traced is not None
    views = {(t.data_ptr(), t.dtype, t.shape, t.stride()): t for t in attempt.traced.weights.values()}
    return sum(_bytes(t) for t in views.values())


def weights_limit(attempt: Attempt) -> float | None:
    """Bytes that all constants of a plan may have; None where they are not bounded."""
    return attempt.budget.limit("weights_bytes", original_bytes(attempt))


def weights_of(plan: Plan, weights: dict[str, torch.Tensor]) -> int:
    """Bytes of the constants that a plan reads."""
    return sum(_bytes(weights[w.name]) for w in plan.program.weights if w.name in weights)


def holding(attempt: Attempt, found: Candidates, weights: dict[str, torch.Tensor]) -> Holding | None:
    """The row on bytes of constants for the cover program; None where they are not bounded."""
    limit = weights_limit(attempt)
    return None if limit is None else replace(all_held(found, weights), limit=limit)


def all_held(found: Candidates, weights: dict[str, torch.Tensor]) -> Holding:
    """The constants of all candidates, with no bound on them."""
    reads = {c.name: _constants(c, weights) for c in found.admitted}
    return Holding(reads, {n: _bytes(weights[n]) for names in reads.values() for n in names})


def _constants(candidate: Candidate, weights: dict[str, torch.Tensor]) -> tuple[str, ...]:
    return tuple(t.name for t in stage_reads(candidate.stage) if t.name in weights)


def problems(attempt: Attempt, built: Built, plain: Built | None) -> list[str]:
    """The bounds on memory that a plan breaks, with what it takes; both plans have run.

    Shares of the original's buffers are shares of what ``plain`` takes, the plan of original operators.
    """
    found = []
    limit, taken = weights_limit(attempt), weights_of(built.plan, built.specialization.binder.weights)
    if limit is not None and taken > limit:
        found.append(f"its constants have {taken:,} bytes, weights_bytes allows {limit:,.0f}")
    peak = _peak(built)
    most = attempt.budget.limit("peak_bytes", peak if plain is None else _peak(plain))
    if most is not None and peak > most:
        found.append(f"its buffers take {peak:,} bytes, peak_bytes allows {most:,.0f}")
    return found


def _peak(built: Built) -> int:
    """Bytes of all buffers of a call that are alive at once."""
    memory = built.specialization.memory
    return memory.arena_bytes + memory.owned_peak_bytes


def allows_original(attempt: Attempt, ms: float) -> bool:
    """Whether the model itself is within the bounds on memory and time; one on buffers is for plans alone."""
    limit, most = weights_limit(attempt), attempt.budget.latency_ms
    quick = most is None or ms <= most
    return quick and (limit is None or original_bytes(attempt) <= limit) and attempt.budget.peak_bytes is None


def nothing_within(attempt: Attempt, nearest: list[str]) -> LimitExceeded:
    """The error where no plan keeps the budget: it names what the nearest one takes."""
    return LimitExceeded(f"budget {attempt.budget}: no plan keeps it; of the nearest, {'; '.join(nearest)}")


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
