"""Tucker packing: core shapes from the singular values of the unfoldings alone, and the searches beside it.

*Packing* keeps the largest sum over modes of squared singular values within a number of parameters. What is discarded
bounds the loss of a Tucker model: it lies between the largest tail of a mode and the sum of all tails.

Source: Ghadiri, Fahrbach, Fu, Mirrokni, "Approximately Optimal Core Shapes for Tensor Decompositions", ICML 2023
(packing, the integer program for a grid of splits, and the greedy searches).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from math import ceil, floor, log

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.factorize.core_shapes import Floats, Shape, best_shape, fitted, parameters


def packing(squares: Sequence[Floats], budget: int) -> Shape:
    """The optimum of Tucker packing: the largest sum over modes of kept squared singular values."""
    sums = [np.cumsum(s) for s in squares]
    shape = tuple(len(s) for s in squares)
    return best_shape(shape, budget, lambda r: np.sum([s[r[:, n] - 1] for n, s in enumerate(sums)], axis=0))


def packed_value(squares: Sequence[Floats], core: Shape) -> float:
    """The objective of packing."""
    return float(sum(s[:r].sum() for s, r in zip(squares, core, strict=True)))


def packing_brute(squares: Sequence[Floats], budget: int) -> Shape:
    """The same by looking at every shape."""
    shape = tuple(len(s) for s in squares)
    every = product(*(range(1, i + 1) for i in shape))
    return max((r for r in every if parameters(shape, r) <= budget), key=lambda r: packed_value(squares, r))


def packing_program(squares: Sequence[Floats], budget: int, accuracy: float = 0.5) -> Shape:
    """An approximation scheme for packing: a shape whose value is at least ``1 - accuracy`` of the optimum.

    Shapes of ranks up to ``1 / step`` are all looked at. For others two programs are solved for each ``k``: the core
    may have ``(1 + step)^k`` parameters and the factors the rest, or the other way round. Each is a knapsack of two
    dimensions over one rank of each mode (a basis of a partition matroid). Take the first of the two for the largest
    ``k`` that the core of the optimum reaches: its factors fit, and its core does once a rank ``r >= 1 + 1 / step``
    shrinks to ``floor(r / (1 + step))``. As singular values fall, that keeps at least
    ``1 / (1 + step) - 1 / r >= (1 - step) / (1 + step)`` of the mode's part, which is ``1 - accuracy`` for
    ``step = accuracy / (2 - accuracy)``; the published figures have a step of 1/2.

    Raises ``LimitExceeded`` where no model is that small, ``UsageError`` for an accuracy outside of 0 to 1.
    """
    if not 0 < accuracy < 1:
        raise UsageError(f"accuracy={accuracy}: expected a number between 0 and 1")
    step = accuracy / (2 - accuracy)
    shape = tuple(len(s) for s in squares)
    small = (range(1, min(i, ceil(1 / step)) + 1) for i in shape)
    found = [r for r in product(*small) if parameters(shape, r) <= budget]
    if not found:
        raise LimitExceeded(f"no Tucker model of {shape} has {budget:,} parameters or fewer")
    for k in range(floor(log(budget) / log(1 + step)) + 1):
        part = (1 + step) ** k
        for core, factors in ((part, budget - part), (budget - part, part)):
            solved = _split(squares, core, factors) if core >= 1 and factors >= sum(shape) else None
            if solved is not None and parameters(shape, solved) <= budget:
                found.append(solved)
    return max(found, key=lambda r: packed_value(squares, r))


def _split(squares: Sequence[Floats], core: float, factors: float) -> Shape | None:
    """The best ranks whose product is at most ``core`` and whose factors have at most ``factors`` parameters."""
    sizes = [len(s) for s in squares]
    values = np.concatenate([np.cumsum(s) for s in squares])
    ranks = np.concatenate([np.arange(1, i + 1) for i in sizes])
    modes = np.repeat(np.arange(len(sizes)), sizes)
    one = (modes[None, :] == np.arange(len(sizes))[:, None]).astype(float)
    weights = np.vstack([one, np.log(ranks) / max(log(core), 1e-9), np.asarray(sizes)[modes] * ranks / factors])
    high = np.ones(len(weights))
    low = np.concatenate([np.ones(len(sizes)), np.full(2, -np.inf)])
    high[len(sizes)] += 1e-9
    result = milp(
        -values / max(values.max(), 1e-300), constraints=LinearConstraint(weights, low, high),
        integrality=np.ones(len(values)), bounds=Bounds(0, 1),
    )  # fmt: skip
    if result.x is None:
        return None
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return tuple(int(np.argmax(result.x[a:b])) + 1 for a, b in pairwise(starts))


def greedy(squares: Sequence[Floats], budget: int, *, per_parameter: bool = False) -> Shape:
    """Raises, one by one, the rank that keeps most more (``per_parameter``: most for each parameter that it adds)."""
    shape = tuple(len(s) for s in squares)
    core = [1] * len(shape)
    while True:
        steps = []
        for n, size in enumerate(shape):
            more = [r + (m == n) for m, r in enumerate(core)]
            if core[n] < size and parameters(shape, more) <= budget:
                gain = float(squares[n][core[n]])
                added = parameters(shape, more) - parameters(shape, core)
                steps.append((gain / added if per_parameter else gain, n))
        if not steps:
            return tuple(core)
        core[max(steps)[1]] += 1


def error_greedy(tensor: Floats, budget: int, sweeps: int = 20) -> Shape:
    """Raises, one by one, the rank after which a fitted Tucker model has the least error: the costly baseline."""
    core = [1] * tensor.ndim
    while True:
        steps = []
        for n in range(tensor.ndim):
            more = tuple(r + (m == n) for m, r in enumerate(core))
            if core[n] < tensor.shape[n] and parameters(tensor.shape, more) <= budget:
                steps.append((fitted(tensor, more, sweeps).error(tensor), n))
        if not steps:
            return tuple(core)
        core[min(steps)[1]] += 1
