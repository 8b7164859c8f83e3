"""Orders without repetitions to start from: depth first, and greedily by the memory that a step frees."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator

from tpopt.passes.rematerialize.graph import ComputationGraph, kahn


def orders(graph: ComputationGraph, seed: int = 0, tries: int = 8) -> Iterator[tuple[int, ...]]:
    """Topological orders, the input order first; ``tries`` of them greedy with random ties and noise."""
    yield graph.order
    place = {v: t for t, v in enumerate(graph.order)}
    yield kahn(graph.predecessors, [], list.append, list.pop)
    yield kahn(graph.predecessors, [], lambda heap, v: heapq.heappush(heap, (-place[v], v)), _pop_node)
    chance = random.Random(seed)  # noqa: S311 - a search, no secret
    for k in range(tries):
        noise = 0.0 if not k else 0.5 * k / tries
        yield greedy(graph, lambda v, noise=noise: noise * chance.random() * graph.sizes[v])  # type: ignore[misc]


def greedy(graph: ComputationGraph, noise: Callable[[int], float]) -> tuple[int, ...]:
    """Takes the ready node that adds the least: its size less that of the operands which it is the last to read."""
    waiting = [len(p) for p in graph.predecessors]
    readers = [len(s) for s in graph.successors]
    ready = [v for v, count in enumerate(waiting) if not count]
    order: list[int] = []

    def added(v: int) -> float:
        kept = graph.sizes[v] if readers[v] else 0
        return kept - sum(graph.sizes[u] for u in graph.predecessors[v] if readers[u] == 1) + noise(v)

    while ready:
        v = min(ready, key=added)
        ready.remove(v)
        order.append(v)
        for u in graph.predecessors[v]:
            readers[u] -= 1
        for w in graph.successors[v]:
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    return tuple(order)


def _pop_node(heap: list[tuple[int, int]]) -> int:
    return heapq.heappop(heap)[1]
