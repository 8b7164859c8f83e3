"""Optimal schedules by exhaustive search: shortest paths between sets of results that are in memory."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator

from tpopt.passes.rematerialize import ComputationGraph


def optimum(graph: ComputationGraph, budget: int, *, fixed_order: bool = False) -> int | None:
    """The least time of any schedule within the budget, or of those of a fixed order; None where there is none.

    A state is what is in memory and what has been computed. A step computes a node whose operands are in memory, and
    then frees any of what is there.
    """
    n, everything = len(graph), (1 << len(graph)) - 1
    needs = [sum(1 << u for u in graph.predecessors[v]) for v in range(n)]
    size = [sum(graph.sizes[v] for v in range(n) if mask >> v & 1) for mask in range(1 << n)]
    earlier = {v: sum(1 << u for u in graph.order[:t]) for t, v in enumerate(graph.order)}
    reached = {(0, 0): 0}
    queue = [(0, 0, 0)]
    while queue:
        time, live, done = heapq.heappop(queue)
        if done == everything:
            return time
        if reached[live, done] < time:
            continue
        for v in range(n):
            if live >> v & 1 or needs[v] & ~live or size[live | 1 << v] + graph.workspaces[v] > budget:
                continue
            if fixed_order and earlier[v] & ~done:
                continue
            later = time + graph.durations[v]
            for kept in subsets(live | 1 << v):
                state = (kept, done | 1 << v)
                if later < reached.get(state, later + 1):
                    reached[state] = later
                    heapq.heappush(queue, (later, *state))
    return None


def subsets(mask: int) -> Iterator[int]:
    part = mask
    while True:
        yield part
        if not part:
            return
        part = (part - 1) & mask


def all_graphs(n: int) -> Iterator[list[list[int]]]:
    """One of each class of isomorphic directed acyclic graphs with ``n`` nodes, as predecessors."""
    pairs = list(itertools.combinations(range(n), 2))
    seen: set[tuple[tuple[int, int], ...]] = set()
    for chosen in range(1 << len(pairs)):
        edges = [pair for k, pair in enumerate(pairs) if chosen >> k & 1]
        form = canonical(n, edges)
        if form not in seen:
            seen.add(form)
            yield [[u for u, w in edges if w == v] for v in range(n)]


def canonical(n: int, edges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The least list of edges under all renamings that keep what distinguishes nodes: degrees, and those around."""
    colour = [0] * n
    for _ in range(n):
        signature = [
            (
                colour[v],
                tuple(sorted(colour[u] for u, w in edges if w == v)),
                tuple(sorted(colour[w] for u, w in edges if u == v)),
            )
            for v in range(n)
        ]
        ranks = {s: k for k, s in enumerate(sorted(set(signature)))}
        colour = [ranks[s] for s in signature]
    classes = [[v for v in range(n) if colour[v] == c] for c in sorted(set(colour))]
    best: tuple[tuple[int, int], ...] | None = None
    for arrangement in itertools.product(*(itertools.permutations(c) for c in classes)):
        place = {v: k for k, v in enumerate(itertools.chain(*arrangement))}
        form = tuple(sorted((place[u], place[w]) for u, w in edges))
        if best is None or form < best:
            best = form
    assert best is not None
    return best


def weighted(predecessors: list[list[int]], weighting: str, chance: random.Random) -> ComputationGraph:
    """A graph with weights: ``unit`` (all 1), ``small`` (1 to 3), ``wide`` (to 1000, some 0, some workspaces)."""
    n = len(predecessors)
    if weighting == "unit":
        return ComputationGraph.of([1] * n, [1] * n, predecessors)
    if weighting == "small":
        return ComputationGraph.of(
            [chance.randint(1, 3) for _ in range(n)], [chance.randint(1, 3) for _ in range(n)], predecessors
        )
    durations = [chance.choice((0, chance.randint(1, 999))) for _ in range(n)]
    workspaces = [chance.choice((0, 0, chance.randint(1, 500))) for _ in range(n)]
    return ComputationGraph.of(
        [chance.randint(1, 1000) for _ in range(n)], durations, predecessors, workspaces=workspaces
    )


def random_graph(n: int, chance: random.Random) -> list[list[int]]:
    density = chance.uniform(0.15, 0.7)
    return [[u for u in range(v) if chance.random() < density] for v in range(n)]


def budgets(graph: ComputationGraph, peak: int) -> list[int]:
    """The structural bound, just below it, and points up to the peak of the input order."""
    low = graph.structural_bound
    return sorted({low - 1, low, (2 * low + peak) // 3, (low + peak) // 2, max(low, peak - 1)})
