"""Bounds that hold whatever the order: what any schedule must have in memory when a node is first computed.

Between the first computations of two consumers of a result, of which the first is an ancestor of the second, lie the
first computations of all nodes that are descendants of the one and ancestors of the other. Over such a gap the result
is kept, and then lies in memory beside each of them, or it is computed again within the gap. Gaps along a chain of
consumers are disjoint, so their repetitions add up. This is the bound of a fixed order
(:func:`tpopt.passes.rematerialize.fixed_order.gap_bound`) for a partial one: both are the same on chains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from tpopt.passes.rematerialize.fixed_order import Answer
from tpopt.passes.rematerialize.graph import ComputationGraph

MOST_NODES: Final = 12_000
"""Nodes up to which ancestors are tabulated, one byte a pair."""
MOST_TERMS: Final = 100_000
"""Terms of all memory rows together; of more rows, those at even distances are taken."""
MOST_BRANCHES: Final = 200
"""Nodes of the search tree where the result must not depend on the time."""
LARGEST_COST: Final = 1_000_000
"""The largest duration as the solver sees it: they are rounded down to a unit that is the same for all."""
TOLERANCE: Final = 1e-6
"""What each variable may add wrongly to a bound: HiGHS takes reduced costs down to -1e-7 for 0."""


def free_bound(graph: ComputationGraph, budget: int, seconds: float, *, deterministic: bool = False) -> Answer:
    """Bounds the time of all schedules within ``budget`` from below, in the graph's unit; or proves that none fits.

    Holds for any order and any number of copies. The bound is that of an integer program, or what HiGHS knows of it
    after ``seconds``, or with ``deterministic`` after a number of branches.
    """
    if len(graph) > MOST_NODES:
        return Answer(None, graph.duration)
    gaps = _Gaps(graph)
    program, rows = _Program(gaps), gaps.rows(budget)
    if not all(program.row(v, covering, budget) for v, covering in rows):
        return Answer(None, graph.duration, infeasible=True)
    extra = program.lower_bound(seconds, deterministic=deterministic) if rows else 0
    return Answer(None, graph.duration + extra)


def order_bound(graph: ComputationGraph) -> int:
    """Bytes below which no order without repetitions gets: all that is kept beside some node whatever the order."""
    if len(graph) > MOST_NODES:
        return graph.structural_bound
    return max(graph.structural_bound, int(_Gaps(graph).loads.max()))


@dataclass(frozen=True)
class _Gaps:
    """The gaps of all results: ``maker[g]`` is read at or made by ``start[g]``, and read by ``end[g]`` next."""

    graph: ComputationGraph

    @cached_property
    def before(self) -> npt.NDArray[np.bool_]:
        """``before[v, u]``: u is an ancestor of v."""
        n = len(self.graph)
        found = np.zeros((n, n), dtype=np.bool_)
        for v in self.graph.order:
            for u in self.graph.predecessors[v]:
                found[v] |= found[u]
                found[v, u] = True
        return found

    @cached_property
    def after(self) -> npt.NDArray[np.bool_]:
        """The transpose, laid out by rows."""
        return np.ascontiguousarray(self.before.T)

    @cached_property
    def all(self) -> npt.NDArray[np.int64]:
        """One row ``maker, start, end`` for each gap that some node lies in."""
        found = [
            (u, start, end)
            for u in range(len(self.graph))
            for start, end in self._covers(u)
            if (self.after[start] & self.before[end]).any()
        ]
        return np.asarray(found, dtype=np.int64).reshape(-1, 3)

    def _covers(self, u: int) -> list[tuple[int, int]]:
        """Pairs of consumers of u, or of u itself and one, that have no other consumer between them."""
        readers = np.asarray((u, *self.graph.successors[u]))
        below = self.before[np.ix_(readers, readers)]
        ends, starts = np.nonzero(below & ~(below @ below))
        return [(int(readers[start]), int(readers[end])) for start, end in zip(starts, ends, strict=True)]

    def covering(self, v: int) -> npt.NDArray[np.int64]:
        """The gaps that v lies in."""
        return np.flatnonzero(self.before[v, self.all[:, 1]] & self.after[v, self.all[:, 2]])

    @cached_property
    def loads(self) -> npt.NDArray[np.int64]:
        """By node, the bytes beside it where everything is kept over its gaps."""
        sizes = np.asarray(self.graph.sizes, dtype=np.int64)
        return np.asarray(
            [self.own(v) + int(sizes[np.unique(self.all[self.covering(v), 0])].sum()) for v in range(len(self.graph))],
            dtype=np.int64,
        )

    def own(self, v: int) -> int:
        """Bytes of v, its workspace and its operands."""
        graph = self.graph
        return graph.sizes[v] + graph.workspaces[v] + sum(graph.sizes[u] for u in graph.predecessors[v])

    def rows(self, budget: int) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """The nodes beside which not everything fits, with their gaps; the fullest, where there are too many."""
        tight = [v for v in self.graph.order if self.loads[v] > budget]
        found = [(v, self.covering(v)) for v in tight]
        step = 1 + sum(len(covering) for _, covering in found) // MOST_TERMS
        fullest = max(tight, key=lambda v: int(self.loads[v]), default=None)
        return [row for k, row in enumerate(found) if k % step == 0 or row[0] == fullest]


class _Program:
    """A covering program: ``dropped(g)``, the result of gap g is not in memory all through it."""

    def __init__(self, gaps: _Gaps) -> None:
        self.gaps = gaps
        self.costs: list[int] = []
        self._dropped: dict[int, int] = {}
        self._absent: dict[tuple[int, ...], int] = {}
        self._rows: list[tuple[dict[int, float], float]] = []

    def row(self, v: int, covering: npt.NDArray[np.int64], budget: int) -> bool:
        """Enough is dropped beside the first computation of v; False where all that may be dropped is not enough."""
        graph, by_maker = self.gaps.graph, dict[int, list[int]]()
        for g in covering.tolist():
            by_maker.setdefault(int(self.gaps.all[g, 0]), []).append(g)
        droppable = {u: tuple(found) for u, found in by_maker.items() if graph.repeatable[u]}
        excess = int(self.gaps.loads[v]) - budget
        if sum(graph.sizes[u] for u in droppable) < excess:
            return False
        row = {self._nowhere(found): min(graph.sizes[u] / excess, 1.0) for u, found in droppable.items()}
        self._rows.append((row, 1.0))
        return True

    def _variable(self) -> int:
        self.costs.append(0)
        return len(self.costs) - 1

    def _nowhere(self, found: tuple[int, ...]) -> int:
        """A variable that may be 1 only where all these gaps, of one result, are dropped."""
        for g in found:
            if g not in self._dropped:
                self._dropped[g] = self._variable()
        if len(found) == 1:
            return self._dropped[found[0]]
        if found not in self._absent:
            self._absent[found] = absent = self._variable()
            self._rows += [({self._dropped[g]: 1.0, absent: -1.0}, 0.0) for g in found]
        return self._absent[found]

    def lower_bound(self, seconds: float, *, deterministic: bool) -> int:
        """The least time of repetitions less the solver's error, or what is known of it when the time is over.

        A result is computed again at least as often as gaps along a chain of its consumers are dropped.
        """
        by_maker: dict[int, list[int]] = {}
        for g in sorted(self._dropped):
            by_maker.setdefault(int(self.gaps.all[g, 0]), []).append(g)
        most = np.ones(len(self.costs) + len(by_maker))
        durations = self.gaps.graph.durations
        unit = max(math.gcd(*durations), max(durations) // LARGEST_COST, 1)
        for u, found in by_maker.items():
            again, chains = self._variable(), self._chains(found)
            self.costs[again] = durations[u] // unit
            most[again] = max(map(len, chains))
            self._rows += [({again: 1.0, **{self._dropped[g]: -1.0 for g in chain}}, 0.0) for chain in chains]
        limit = {"node_limit": MOST_BRANCHES} if deterministic else {"time_limit": seconds}
        found_optimum = milp(
            self.costs,
            integrality=np.ones(len(most)),
            bounds=Bounds(0, most),
            constraints=LinearConstraint(self._matrix(), [least for _, least in self._rows], np.inf),
            options={"mip_rel_gap": 0.0, **limit},
        )
        bound = found_optimum.mip_dual_bound
        if bound is None or not math.isfinite(bound):
            return 0
        return max(0, math.ceil(float(bound) - TOLERANCE * (1 + len(self.costs)))) * unit

    def _matrix(self) -> csr_array:
        rows = [(k, x, factor) for k, (row, _) in enumerate(self._rows) for x, factor in row.items()]
        row, column, factor = zip(*rows, strict=True)
        return csr_array((factor, (row, column)), shape=(len(self._rows), len(self.costs)))

    def _chains(self, found: Sequence[int]) -> list[tuple[int, ...]]:
        """For each gap of one result, a longest chain of gaps through it, each ending no later than the next starts."""
        ends = {g: (int(self.gaps.all[g, 1]), int(self.gaps.all[g, 2])) for g in found}
        place = {v: t for t, v in enumerate(self.gaps.graph.order)}
        ascending = sorted(found, key=lambda g: place[ends[g][1]])
        up: dict[int, tuple[int, ...]] = {}
        for g in ascending:
            earlier = [up[h] for h in up if self._follows(ends[h][1], ends[g][0])]
            up[g] = (*max(earlier, key=len, default=()), g)
        down: dict[int, tuple[int, ...]] = {}
        for g in reversed(ascending):
            later = [down[h] for h in down if self._follows(ends[g][1], ends[h][0])]
            down[g] = (g, *max(later, key=len, default=()))
        return list(dict.fromkeys((*up[g][:-1], *down[g]) for g in found))

    def _follows(self, end: int, start: int) -> bool:
        return end == start or bool(self.gaps.before[start, end])
