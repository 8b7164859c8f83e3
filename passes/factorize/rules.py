"""Rules that are used to set the ranks of all layers under one budget: what :func:`allocate` is compared with.

Each has one level for all layers, and takes the largest at which the budget is kept.

Sources: Nakajima, Sugiyama, Babacan, Tomioka, "Global Analytic Solution of Fully-observed Variational Bayesian Matrix
Factorization", JMLR 2013 (ranks by variational Bayes); Kim et al., "Compression of Deep Convolutional Neural Networks
for Fast and Low Power Mobile Applications", ICLR 2016 (their use for layers); the greedy selection of AIMET (the same
error for each layer).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, sqrt

import numpy as np
from scipy.optimize import minimize_scalar

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.factorize.allocation import Candidates, Choice, Floats, total_size


def same_share(layers: Sequence[Candidates], budget: int) -> Choice:
    """Each layer keeps the same share of the size of its largest candidate, and of what fits the best."""

    def at(share: float) -> Choice:
        return tuple(_within(c, share * float(c.sizes.max())) for c in layers)

    return _largest(layers, budget, at, [float(s / c.sizes.max()) for c in layers for s in c.sizes])


def same_error(layers: Sequence[Candidates], budget: int) -> Choice:
    """Each layer has the smallest candidate of at most the same error."""

    def at(level: float) -> Choice:
        return tuple(
            min(range(len(c.sizes)), key=lambda j: (c.errors[j] > -level, c.sizes[j], c.errors[j])) for c in layers
        )

    return _largest(layers, budget, at, [-float(e) for c in layers for e in c.errors])


def scaled_ranks(layers: Sequence[Candidates], budget: int, ranks: Sequence[int]) -> Choice:
    """Ranks in the proportions of ``ranks``, such as those of :func:`vbmf_rank`; candidate ``r - 1`` has rank ``r``."""

    def at(scale: float) -> Choice:
        pairs = zip(layers, ranks, strict=True)
        return tuple(min(max(int(scale * max(r, 1) + 1e-9), 1), len(c.sizes)) - 1 for c, r in pairs)

    levels = [k / max(r, 1) for c, r in zip(layers, ranks, strict=True) for k in range(1, len(c.sizes) + 1)]
    return _largest(layers, budget, at, levels)


def steepest(layers: Sequence[Candidates], budget: int) -> Choice:
    """From the smallest candidates on, the step that saves most error for its size, while one fits."""
    own = [int(np.lexsort((c.errors, c.sizes))[0]) for c in layers]
    rest = budget - total_size(layers, tuple(own))
    if rest < 0:
        raise LimitExceeded(f"budget={budget:,}: the smallest candidates of all layers have {budget - rest:,}")
    while True:
        steps = [(*_slope(c, j, rest), n) for n, (c, j) in enumerate(zip(layers, own, strict=True))]
        slope, more, n = max(steps, default=(0.0, 0, 0))
        if slope <= 0:
            return tuple(own)
        rest -= int(layers[n].sizes[more] - layers[n].sizes[own[n]])
        own[n] = more


def vbmf_rank(values: Floats, shape: tuple[int, int]) -> int:
    """The rank that empirical variational Bayes gives a matrix of that shape: 0 where it takes all for noise.

    ``values`` are all of its singular values, falling. The noise is estimated as well, by a bounded search in one
    variable; at a noise level, a value counts as signal above a threshold in closed form.
    """
    rows, columns = sorted(shape)
    if values.ndim != 1 or len(values) != rows:
        raise UsageError(f"values: expected the {rows} singular values of a matrix of shape {shape}")
    squares, alpha = np.square(values), rows / columns
    if not squares.sum() > 0:
        return 0
    tau = 2.5129 * sqrt(alpha)
    threshold = (1 + tau) * (1 + alpha / tau)
    most = max(min(ceil(rows / (1 + alpha)) - 1, rows - 1), 0)
    high = float(squares.sum() / (rows * columns))
    low = max(float(squares[min(most, rows - 1)]) / (columns * threshold), float(squares[most:].mean()) / columns)

    def free_energy(noise: float) -> float:
        x = np.maximum(squares / (columns * noise), 1e-300)
        signal = x[x > threshold]
        root = (signal - (1 + alpha) + np.sqrt((signal - (1 + alpha)) ** 2 - 4 * alpha)) / 2
        return float((x - np.log(x)).sum() + (np.log(root + 1) + alpha * np.log(root / alpha + 1) - root).sum())

    noise = high if not low < high else float(minimize_scalar(free_energy, bounds=(low, high), method="bounded").x)
    return int((squares > columns * noise * threshold).sum())


def _within(candidates: Candidates, size: float) -> int:
    """The least error up to a size, or the smallest candidate."""
    fits = np.flatnonzero(candidates.sizes <= size * (1 + 1e-12))
    if not len(fits):
        return int(np.argmin(candidates.sizes))
    return int(fits[np.argmin(candidates.errors[fits])])


def _slope(candidates: Candidates, at: int, rest: int) -> tuple[float, int]:
    added = candidates.sizes - candidates.sizes[at]
    saved = candidates.errors[at] - candidates.errors
    slopes = np.where((added > 0) & (added <= rest), saved / np.maximum(added, 1), -1.0)
    best = int(np.argmax(slopes))
    return float(slopes[best]), best


def _largest(
    layers: Sequence[Candidates], budget: int, at: Callable[[float], Choice], levels: Sequence[float]
) -> Choice:
    """The choice at the largest level that keeps the budget; sizes grow with the level."""
    ordered = np.unique(np.asarray(levels))
    low, high = 0, len(ordered)
    if total_size(layers, at(float(ordered[0]))) > budget:
        raise LimitExceeded(f"budget={budget:,}: the rule keeps it at no level")
    while high - low > 1:
        middle = (low + high) // 2
        if total_size(layers, at(float(ordered[middle]))) <= budget:
            low = middle
        else:
            high = middle
    return at(float(ordered[low]))
