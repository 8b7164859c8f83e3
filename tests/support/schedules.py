"""Graphs for the tests of schedules."""

from __future__ import annotations

from tpopt.passes.rematerialize import ComputationGraph


def training_chain(layers: int) -> ComputationGraph:
    """A chain of layers and its backward pass, each of which reads the layer's input: all sizes and durations 1."""
    forward = [[v - 1] if v else [] for v in range(layers)]
    backward = [[layers + k - 1, layers - 1 - k] for k in range(layers)]
    return ComputationGraph.of([1] * (2 * layers), [1] * (2 * layers), forward + backward)


def training_blocks(blocks: int) -> ComputationGraph:
    """Transformer-like blocks of 11 operators with residuals, a loss, and a backward operator for each of them.

    A backward operator reads the gradients of the consumers, the operands, and (of a softmax or an activation) the
    result. Sizes and durations are those of an operator of its kind, in small whole numbers.
    """
    kinds = (
        ("norm", 4, 1, (-1,)), ("q", 4, 4, (0,)), ("k", 4, 4, (0,)), ("v", 4, 4, (0,)), ("softmax", 8, 5, (1, 2)),
        ("mix", 4, 4, (4, 3)), ("out", 4, 4, (5,)), ("add", 4, 1, (6, -1)), ("up", 16, 16, (7,)), ("gelu", 16, 2, (8,)),
        ("down", 4, 16, (9, 7)),
    )  # fmt: skip
    operands: list[list[int]] = [[]]
    sizes, durations = [4], [0]
    for _ in range(blocks):
        start, first = len(sizes) - 1, len(sizes)
        for _, size, duration, reads in kinds:
            operands.append([start if k < 0 else first + k for k in reads])
            sizes.append(size)
            durations.append(duration)
    last = len(sizes)
    gradient = {last - 1: last}
    readers: list[list[int]] = [[] for _ in sizes]
    for v, reads in enumerate(operands):
        for u in reads:
            readers[u].append(v)
    operands, sizes, durations = [*operands, [last - 1]], [*sizes, 4], [*durations, 1]
    for v in range(last - 2, 0, -1):
        gradient[v] = len(sizes)
        beside = {u for w in readers[v] for u in operands[w]}
        operands.append(sorted({*(gradient[w] for w in readers[v]), *beside}))
        sizes.append(sizes[v])
        durations.append(2 * durations[v])
    return ComputationGraph.of(sizes, durations, operands)


def crowded(users: int) -> ComputationGraph:
    """A node with many users, and between them what leaves no room for it within a budget of 100."""
    sizes, durations, operands, workspaces = [60], [1], [[]], [0]
    before: list[int] = []
    for _ in range(users):
        sizes += [10, 10]
        durations += [5, 5]
        workspaces += [50, 0]
        operands += [before, [0, len(operands)]]
        before = [len(operands) - 1]
    nodes = range(len(sizes))
    return ComputationGraph.of(
        sizes,
        durations,
        operands,
        ids=list(map(str, nodes)),
        order=nodes,
        repeatable=[True] * len(nodes),
        workspaces=workspaces,
    )
