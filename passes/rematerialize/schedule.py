"""What a solver answers with, and the budget that it was asked to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tpopt.errors import UsageError
from tpopt.passes.rematerialize.graph import ComputationGraph
from tpopt.passes.rematerialize.simulate import simulate

Status: TypeAlias = Literal["optimal", "feasible", "infeasible", "unknown"]
Progress: TypeAlias = Callable[[str, float], object]
"""Called with what is going on and the part of the time that is over, 0 to 1."""


@dataclass(frozen=True)
class Schedule:
    """A sequence of node numbers and what is known of it.

    ``status`` is ``optimal`` (within the budget, and no schedule of the mode takes less time), ``feasible`` (within
    the budget), ``infeasible`` (proved: no schedule fits) or ``unknown`` (none was found, and none was ruled out); in
    the last two cases ``sequence`` is the one of the lowest peak that was found. Without a budget the lowest peak is
    sought, and ``optimal`` means that no schedule has a lower one. ``lower_bound_percent`` is the extra
    time that every schedule of the mode needs. Times are in the unit of the graph, ``seconds`` is the solver's.
    """

    graph: ComputationGraph
    budget: int | None
    sequence: tuple[int, ...]
    peak: int
    duration: int
    lower_bound: int
    status: Status
    seconds: float

    @property
    def extra_time_percent(self) -> float:
        """Time of repeated computations, in percent of the time of computing each node once."""
        return percent(self.duration - self.graph.duration, self.graph.duration)

    @property
    def lower_bound_percent(self) -> float:
        """Extra time that no schedule of the mode avoids, in percent as above."""
        return percent(self.lower_bound - self.graph.duration, self.graph.duration)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``tpopt remat --json``."""
        return {
            "sequence": [self.graph.ids[v] for v in self.sequence],
            "peak": self.peak,
            "budget": self.budget,
            "extra_time_percent": self.extra_time_percent,
            "lower_bound_percent": self.lower_bound_percent,
            "status": self.status,
            "seconds": round(self.seconds, 3),
        }


def schedule_of(
    graph: ComputationGraph,
    budget: int | None,
    sequence: Sequence[int],
    *,
    lowest_peak: int,
    lower_bound: int,
    exhausted: bool,
    seconds: float,
) -> Schedule:
    """A schedule as the simulator sees it; ``exhausted`` says that the solver proved there is nothing better.

    ``lowest_peak`` is what no schedule of the mode undercuts.
    """
    seen = simulate(graph, sequence)
    limit = lowest_peak if budget is None else budget
    status: Status
    if seen.peak <= limit:
        status = "optimal" if exhausted or lower_bound >= seen.duration else "feasible"
        lower_bound = seen.duration if status == "optimal" else lower_bound
    elif budget is None:
        status = "feasible"
    else:
        status = "infeasible" if exhausted or lowest_peak > limit else "unknown"
    return Schedule(graph, budget, tuple(sequence), seen.peak, seen.duration, lower_bound, status, seconds)


def budget_in_bytes(graph: ComputationGraph, budget: float) -> int:
    """A budget of at most 1 is a fraction of the input order's peak, another one is in the unit of the sizes.

    Raises :class:`UsageError` for what is no positive finite number.
    """
    if not math.isfinite(budget) or budget <= 0:
        raise UsageError(f"budget {budget!r}: expected a part of the input order's peak (0 to 1) or bytes (above 1)")
    return math.floor(budget * simulate(graph, graph.order).peak if budget <= 1 else budget)


def percent(part: float, whole: float) -> float:
    """``part`` in percent of ``whole``; 0 where there is nothing to compare with."""
    return 100.0 * part / whole if whole else 0.0
