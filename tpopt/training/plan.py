"""From the operations of a step and a budget to the sequence that runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tpopt.errors import KernelBuildFailed, LimitExceeded
from tpopt.passes.rematerialize import Schedule, Search, rematerialize
from tpopt.passes.rematerialize.schedule import Progress
from tpopt.protocols import AnnealerFactory
from tpopt.training.budget import shown
from tpopt.training.operations import Operations, schedule_graph

TRIES: Final = (0.5, 0.2, 0.15, 0.15, 0.5, 1.0)
"""Parts of the time for schedules until one keeps the budget at the level of storages.

The last come on top of the whole: a step that is given up costs its user more than that time.
"""
MARGIN: Final = 2
"""How many times the overshoot of one schedule the next one has less."""


@dataclass(frozen=True)
class StepPlan:
    """The operations in the order of execution, bytes alive at each, and what the solver said."""

    sequence: tuple[int, ...]
    live_bytes: tuple[int, ...]
    schedule: Schedule

    @property
    def peak(self) -> int:
        """Bytes alive at the busiest step."""
        return max(self.live_bytes, default=0)

    @property
    def repeated(self) -> tuple[int, ...]:
        """Operations that run again, as often as they do."""
        seen: set[int] = set()
        again = []
        for k in self.sequence:
            if k in seen:
                again.append(k)
            seen.add(k)
        return tuple(again)


def plan_step(
    operations: Operations,
    budget: int,
    search: Search,
    *,
    annealer: AnnealerFactory | None,
    progress: Progress | None = None,
) -> StepPlan:
    """The fastest sequence found whose live bytes keep the budget.

    The solver sees an operation with several results as one that makes the largest, and others that follow; what is
    counted in the end are the storages as the runner makes and frees them. Where they exceed the budget, the solver
    gets less and searches again; where it found nothing, it gets back half of what was taken away.

    Raises:
        LimitExceeded: no sequence within the budget was found, with the lowest peak and what no sequence undercuts.
    """
    graph, steps = schedule_graph(operations)
    floor = max(operations_floor(operations), 0)
    limit, lowest = budget, None
    for number, part in enumerate(TRIES):
        shorter = dataclasses.replace(search, seconds=part * search.seconds, seed=search.seed + number)
        schedule = rematerialize(graph, limit, shorter, annealer=annealer, progress=progress)
        sequence = executed(schedule.sequence, steps)
        plan = StepPlan(sequence, tuple(operations.live_bytes(sequence)), schedule)
        if plan.peak <= budget:
            return plan
        lowest = plan if lowest is None or plan.peak < lowest.peak else lowest
        unreached = schedule.status in {"infeasible", "unknown"}
        if unreached and limit == budget and (number or schedule.status == "infeasible"):
            break
        limit = (limit + budget + 1) // 2 if unreached else limit - MARGIN * (plan.peak - budget)
    assert lowest is not None
    raise LimitExceeded(
        f"memory_budget {shown(budget)}: no order of the step within it was found; the lowest peak is "
        f"{shown(lowest.peak)}, and one operator with its operands alone takes {shown(floor)}"
    )


def operations_floor(operations: Operations) -> int:
    """Bytes that no sequence undercuts: some operator's results beside what it reads."""
    items = operations.items
    return max(
        (sum(op.sizes) + sum(items[maker].sizes[i] for maker, i in op.reads) for op in items),
        default=0,
    )


def executed(sequence: Sequence[int], steps: dict[int, int]) -> tuple[int, ...]:
    """The operations of a schedule; its other nodes only tell the solver who lives for how long."""
    return tuple(steps[v] for v in sequence if v in steps)


def native_annealer() -> AnnealerFactory | None:
    """The annealer in C; ``None`` where nothing can be compiled."""
    from tpopt.backend.native.annealer import NativeAnnealer, prepare

    try:
        prepare()
    except KernelBuildFailed:
        return None
    return NativeAnnealer
