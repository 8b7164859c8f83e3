"""Layers to allocate ranks to (of a trained net, with planted ranks, drawn), and the rules that do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from support.core_shapes import trained_net
from tpopt.passes.factorize.allocation import Candidates, Choice
from tpopt.passes.factorize.rules import same_error, same_share, scaled_ranks, steepest, vbmf_rank

RULES: dict[str, Callable[[Sequence[Candidates], int, Sequence[int]], Choice]] = {
    "uniform": lambda layers, budget, _: same_share(layers, budget),
    "VBMF": scaled_ranks,
    "greedy, same error": lambda layers, budget, _: same_error(layers, budget),
    "greedy, steepest": lambda layers, budget, _: steepest(layers, budget),
}


def share_of(layers: Sequence[Candidates], share: float) -> int:
    """A budget between the smallest and the largest sum of sizes."""
    least, most = (sum(int(f(c.sizes)) for c in layers) for f in (np.min, np.max))
    return int(least + share * (most - least))


def named_layers(kind: str) -> tuple[list[Candidates], list[int]]:
    """Every rank of each matrix as a candidate, errors relative to a layer's own; and ranks by variational Bayes."""
    matrices = trained_net() if kind == "trained" else planted()
    layers, ranks = [], []
    for weight in matrices:
        values = np.linalg.svd(weight, compute_uv=False)
        layers.append(Candidates.of_ranks(values**2, sum(weight.shape), 1 / float(np.square(values).sum())))
        ranks.append(vbmf_rank(values, weight.shape))
    return layers, ranks


def planted() -> list[np.ndarray]:
    """Twelve matrices of low rank, and noise."""
    rng, found = np.random.default_rng(0), []
    for rows, columns, rank in zip(
        rng.integers(64, 257, 12), rng.integers(64, 257, 12), (2, 4, 8, 16) * 3, strict=True
    ):
        signal = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
        found.append(signal + rng.uniform(0.3, 2) * rng.standard_normal((rows, columns)))
    return found


def drawn_layers(seed: int, count: int, candidates: int) -> list[Candidates]:
    """Layers of different widths whose spectra fall at different rates, with some of their ranks as candidates."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        rows, columns = (int(n) for n in rng.integers(64, 1024, 2))
        ranks = np.arange(1, min(rows, columns) + 1)
        squares = np.sort(ranks ** -rng.uniform(0.2, 2) * rng.uniform(0.5, 1.5, len(ranks)))[::-1] ** 2
        every = Candidates.of_ranks(squares, rows + columns, rng.uniform(0.1, 10))
        some = np.unique(np.linspace(0, len(ranks) - 1, candidates).astype(int))
        found.append(Candidates(every.sizes[some], every.errors[some]))
    return found
