"""Random layered graphs, the benchmark that schedulers are compared on.

The generator of Gagrani et al., "Neural Topological Ordering for Computation Graphs" (NeurIPS 2022), appendix A: layers
of varying width, neighbouring layers joined by edges between nearby positions, and some edges that skip layers.
"""

from __future__ import annotations

import itertools
import math
import random
from typing import Final

from tpopt.passes.rematerialize.graph import ComputationGraph, kahn

WIDTHS: Final = (0.25, 0.5)
"""Range of the width factor: layers are as wide as the graph is long at 0.5."""
WIDTH_SPREAD: Final = 0.75
EDGE_DENSITY: Final = 0.2
SKIP_DENSITY: Final = 0.14
SKIP_REACH: Final = 0.2
LONGEST: Final = 999
"""Durations are drawn up to here; sizes are multiples of 10 around three means."""
SIZES: Final = ((0.36, 582, 343), (0.27, 1605, 659), (0.37, 3605, 1357))
"""Weight, mean and standard deviation of each kind of size."""


def layered_graph(nodes: int, seed: int) -> ComputationGraph:
    """A graph with a source, a sink and ``nodes`` in all (at least 4); the input order is a random topological one."""
    chance = random.Random(seed)  # noqa: S311 - a benchmark, no secret
    layers = _layers(nodes, chance)
    edges: dict[tuple[int, int], None] = {}
    for upper, lower in itertools.pairwise(layers):
        edges.update(dict.fromkeys(_between(upper, lower)))
    skips = math.ceil(len(edges) * SKIP_DENSITY / (1 - SKIP_DENSITY))
    for _ in range(skips if len(layers) > 3 else 0):
        edges[_skip(layers, chance)] = None
    predecessors: list[list[int]] = [[] for _ in range(nodes)]
    for u, v in edges:
        predecessors[v].append(u)
    sizes = [_size(chance) for _ in range(nodes)]
    durations = [0 if v in {0, nodes - 1} else chance.randint(0, LONGEST) for v in range(nodes)]

    def pop(ready: list[int]) -> int:
        return ready.pop(chance.randrange(len(ready)))

    order = kahn(predecessors, [], list.append, pop)
    return ComputationGraph.of(sizes, durations, predecessors, order=order)


def _layers(nodes: int, chance: random.Random) -> list[range]:
    width = chance.uniform(*WIDTHS)
    mean = nodes / math.ceil(math.sqrt(nodes * (1 / width - 1)))
    low, high = max(1, math.ceil(mean * (1 - WIDTH_SPREAD))), max(1, math.floor(mean * (1 + WIDTH_SPREAD)))
    layers, used = [range(1)], 1
    while used < nodes - 1:
        count = min(chance.randint(low, max(low, high)), nodes - 1 - used)
        layers.append(range(used, used + count))
        used += count
    return [*layers, range(nodes - 1, nodes)]


def _between(upper: range, lower: range) -> list[tuple[int, int]]:
    """Edges of neighbouring layers: each node of the larger one is joined to a window of the smaller one."""
    large, small = (upper, lower) if len(upper) >= len(lower) else (lower, upper)
    count = round(EDGE_DENSITY * len(large) * len(small) + (1 - EDGE_DENSITY) * len(large))
    pairs = []
    for k, node in enumerate(large):
        degree = min(len(small), count // len(large) + (k < count % len(large)))
        centre = math.ceil(k * (len(small) - 1) / max(len(large) - 1, 1))
        start = min(max(centre - degree // 2, 0), len(small) - degree)
        pairs += [(node, other) for other in small[start : start + degree]]
    return pairs if large is upper else [(v, u) for u, v in pairs]


def _skip(layers: list[range], chance: random.Random) -> tuple[int, int]:
    source = chance.randrange(len(layers) - 2)
    target = chance.randrange(source + 2, len(layers))
    place = chance.random()
    near = min(place + SKIP_REACH * chance.random(), 0.999)
    return layers[source][int(place * len(layers[source]))], layers[target][int(near * len(layers[target]))]


def _size(chance: random.Random) -> int:
    _, mean, deviation = chance.choices(SIZES, [weight for weight, _, _ in SIZES])[0]
    return max(10, 10 * round(chance.gauss(mean, deviation) / 10))
