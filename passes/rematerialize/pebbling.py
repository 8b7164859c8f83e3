"""Whether a budget suffices at all, where everything may be computed again as often as it takes.

A node can be computed within the budget if all that it needs can be brought together within it, whatever else the
graph holds: everything else can be thrown away before, and computed again after. So a graph fits if each of its sinks
does, one after the other. For one sink the search goes backwards: if a set of results is to be in memory, and the last
of them to be computed is u, then the others and the operands of u were there before. This is the pebble game with
weights, complete for polynomial space (Gilbert, Lengauer, Tarjan, 1980), hence the limit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tpopt.passes.rematerialize.graph import ComputationGraph

MOST_TRIALS: Final = 300_000
"""Computations that are tried as the last one of some set before the search gives up: a second or two."""


@dataclass(frozen=True)
class Reach:
    """``sequence`` is a schedule within the budget, not a short one; ``infeasible`` is a proof that there is none.

    Where the search gave up, there is neither.
    """

    sequence: tuple[int, ...] | None
    infeasible: bool


def reach(graph: ComputationGraph, budget: int, most_trials: int = MOST_TRIALS) -> Reach:
    """Looks for any schedule within ``budget`` (in the unit of the sizes), through ``most_trials`` trials in all.

    That some nodes must not repeat is ignored by the proof; a sequence that repeats one of them is not returned.
    """
    search = _Search(graph, budget, most_trials)
    steps: list[int] = []
    try:
        for sink in (v for v in graph.order if not graph.successors[v]):
            found = search.backwards(sink)
            if found is None:
                return Reach(None, infeasible=True)
            steps += found
    except _GaveUp:
        return Reach(None, infeasible=False)
    seen: set[int] = set()
    for v in steps:
        if v in seen and not graph.repeatable[v]:
            return Reach(None, infeasible=False)
        seen.add(v)
    return Reach(tuple(steps), infeasible=False)


class _GaveUp(Exception):
    """The limit is reached."""


class _Search:
    """Sets are bits of an integer, the node of place t in the input order being bit t."""

    def __init__(self, graph: ComputationGraph, budget: int, most_trials: int) -> None:
        place = {v: t for t, v in enumerate(graph.order)}
        self.place, self.order, self.budget, self.left = place, graph.order, budget, most_trials
        self.sizes = [graph.sizes[v] for v in graph.order]
        self.workspaces = [graph.workspaces[v] for v in graph.order]
        self.operands = [[place[u] for u in graph.predecessors[v]] for v in graph.order]

    def backwards(self, sink: int) -> list[int] | None:
        """The computations that end with ``sink``'s, or None where the budget does not allow them."""
        start = 1 << self.place[sink]
        came: dict[int, tuple[int, int]] = {start: (0, 0)}
        queue = [(start, self.sizes[self.place[sink]])]
        while queue:
            wanted, total = heapq.heappop(queue)
            if not wanted:
                return self._steps(start, came)
            for last in descending(wanted):
                self._try()
                others = wanted & ~(1 << last)
                missing = [u for u in self.operands[last] if not others >> u & 1]
                held = total - self.sizes[last] + sum(self.sizes[u] for u in missing)
                before = others | sum(1 << u for u in missing)
                if held + self.sizes[last] + self.workspaces[last] > self.budget:
                    continue
                if before not in came:
                    came[before] = (wanted, last)
                    heapq.heappush(queue, (before, held))  # the sets that end first in the input order come first
                if not missing:
                    break  # what needs nothing new may as well be computed last
        return None

    def _try(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _GaveUp

    def _steps(self, start: int, came: dict[int, tuple[int, int]]) -> list[int]:
        steps, wanted = [], 0
        while wanted != start:
            wanted, last = came[wanted]
            steps.append(self.order[last])
        return steps


def descending(mask: int) -> Iterator[int]:
    """The bits of a set, the highest first."""
    while mask:
        top = mask.bit_length() - 1
        yield top
        mask ^= 1 << top
