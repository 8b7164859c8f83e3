"""Figures that need no second derivative: the empirical Fisher matrix, its inverse, and a fit to random noise.

Sources: Frantar, Kurtic, Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order Information", NeurIPS
2021 (inverse products from stored gradients); Malinovskii et al., "Pushing the Limits of Large Language Model
Quantization via the Linearity Theorem", NAACL 2025 (a layer's coefficient from noise of several sizes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from tpopt.errors import UnknownName, UsageError
from tpopt.sensitivity.objective import Batch, Objective, Weights, derivative, differentiating

NOISE: tuple[float, ...] = tuple(0.01 * k for k in range(1, 16))
"""Relative sizes of the noise, each measured once."""


def sample_gradients(objective: Objective, most: int | None = None) -> Iterator[Weights]:
    """The gradient of each sample's own loss, one after the other."""
    count = 0
    for inputs, targets in objective.batches:
        for k in range(objective.size(inputs)):
            if most is not None and count >= most:
                return
            count += 1
            yield _gradient(objective, (tuple(t[k : k + 1] for t in inputs), _one(targets, k)))


def _one(targets: object, k: int) -> object:
    if isinstance(targets, torch.Tensor) and targets.dim():
        return targets[k : k + 1]
    return tuple(_one(t, k) for t in targets) if isinstance(targets, tuple) else targets


def _gradient(objective: Objective, batch: Batch) -> Weights:
    with differentiating():
        weights = {n: w.detach().clone().requires_grad_() for n, w in objective.weights.items()}
        found = derivative(objective.at(weights, batch), list(weights.values()))
    return {n: torch.zeros_like(w) if g is None else g for (n, w), g in zip(weights.items(), found, strict=True)}


def fisher_traces(objective: Objective, most: int | None = None) -> dict[str, float]:
    """The trace of each weight's block of the empirical Fisher matrix: the mean squared gradient of a sample."""
    total, count = dict.fromkeys(objective.weights, 0.0), 0
    for found in sample_gradients(objective, most):
        count += 1
        for name, value in found.items():
            total[name] += float(value.double().square().sum())
    return {name: value / count for name, value in total.items()}


class InverseFisher:
    """Products with the inverse of ``damping * I + mean over samples of g g^T``, from at most ``most`` gradients.

    By Woodbury's identity one system as large as the number of samples is factored once.
    """

    def __init__(self, objective: Objective, most: int = 256, damping: float = 1e-5) -> None:
        if not damping > 0:
            raise UsageError(f"damping={damping}: expected a number above 0")
        self._shapes = {n: w.shape for n, w in objective.weights.items()}
        rows = [_flat(g) for g in sample_gradients(objective, most)]
        self._gradients = torch.stack(rows).double()
        self._damping, self._dtypes = damping, {n: w.dtype for n, w in objective.weights.items()}
        count = len(rows)
        small = self._gradients @ self._gradients.T + count * damping * torch.eye(count, dtype=torch.float64)
        self._factor = torch.linalg.cholesky(small)

    def __call__(self, vector: Weights) -> Weights:
        """The product with a vector that has every weight's name."""
        missing = [n for n in self._shapes if n not in vector]
        if missing:
            raise UnknownName("weight", missing[0], vector)
        x = _flat({n: vector[n] for n in self._shapes}).double()
        inner = torch.cholesky_solve((self._gradients @ x)[:, None], self._factor)[:, 0]
        result = (x - self._gradients.T @ inner) / self._damping
        parts = torch.split(result, [s.numel() for s in self._shapes.values()])
        return {n: p.reshape(s).to(self._dtypes[n]) for (n, s), p in zip(self._shapes.items(), parts, strict=True)}


def _flat(values: Weights) -> torch.Tensor:
    return torch.cat([v.reshape(-1).cpu() for v in values.values()])


def noise_coefficients(
    objective: Objective, names: Sequence[str] | None = None, sizes: Sequence[float] = NOISE, seed: int = 0
) -> dict[str, float]:
    """How the loss grows with the squared relative error of each weight, without any backward pass.

    Gaussian noise of each relative size is put on one weight at a time; the coefficient is the least-squares fit of the
    loss's increase to the squared size, through the origin.
    """
    if not sizes or any(not s > 0 for s in sizes):
        raise UsageError(f"sizes={sizes}: expected relative sizes above 0")
    generator = torch.Generator().manual_seed(seed)
    base = objective.mean()
    found = {}
    for name in names or objective.weights:
        if name not in objective.weights:
            raise UnknownName("weight", name, objective.weights)
        weight, top = objective.weights[name], 0.0
        for size in sizes:
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
            noise *= size * weight.norm() / noise.norm()
            top += (objective.mean({**objective.weights, name: weight + noise}) - base) * size**2
        found[name] = top / sum(s**4 for s in sizes)
    return found
