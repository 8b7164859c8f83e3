"""Second derivatives of a mean loss: products, traces with their errors, the largest eigenvalue, the diagonal.

Nothing here changes the model: weights are detached copies, gradients come from ``torch.autograd.grad`` alone, random
numbers from a generator of the call. A figure over several batches is the mean over samples, so that a last batch of
another size counts for what it holds.

Sources: Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990; Dong et al., "HAWQ-V2",
NeurIPS 2020 (traces of weights and activations by layer); Lanczos' method as in ARPACK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from scipy.stats import t as student

from tpopt.errors import LimitExceeded, UnknownName, UsageError
from tpopt.sensitivity.objective import Batch, Objective, Weights, derivative, differentiating


@dataclass(frozen=True)
class Estimate:
    """A mean over random probes and over batches of data, with the standard errors of both.

    Attributes:
        mean: the estimate.
        probe_error: standard error that the choice of probes makes; None with fewer than two.
        data_error: standard error that the choice of batches makes; None with fewer than two.
        probes: number of probes.
    """

    mean: float
    probe_error: float | None
    data_error: float | None
    probes: int

    @property
    def error(self) -> float | None:
        """The standard error of both together, as far as they are known."""
        known = [e for e in (self.probe_error, self.data_error) if e is not None]
        return sqrt(sum(e * e for e in known)) if known else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Where the figure of this data lies, for all probes there are."""
        if self.probe_error is None:
            return -float("inf"), float("inf")
        half = float(student.ppf((1 + confidence) / 2, self.probes - 1)) * self.probe_error
        return self.mean - half, self.mean + half


def product(objective: Objective, vector: Weights) -> Weights:
    """The Hessian of the mean loss times a vector, by name; names that are missing count as zero."""
    total = {n: torch.zeros_like(w) for n, w in objective.weights.items()}
    for share, batch in zip(objective.shares(), objective.batches, strict=True):
        for name, value in _batch_product(objective, batch, vector).items():
            total[name] += share * value
    return total


def gradient(objective: Objective) -> Weights:
    """The gradient of the mean loss."""
    total = {n: torch.zeros_like(w) for n, w in objective.weights.items()}
    for share, batch in zip(objective.shares(), objective.batches, strict=True):
        with differentiating():
            weights = _leaves(objective.weights)
            found = derivative(objective.at(weights, batch), list(weights.values()))
        for name, value in zip(weights, found, strict=True):
            if value is not None:
                total[name] += share * value
    return total


def _leaves(weights: Weights) -> Weights:
    return {n: w.detach().clone().requires_grad_() for n, w in weights.items()}


def _batch_product(objective: Objective, batch: Batch, vector: Weights) -> Weights:
    """The product with one batch's Hessian: the gradient of ``<gradient, vector>``."""
    with differentiating():
        return _twice(objective, batch, vector)


def _twice(objective: Objective, batch: Batch, vector: Weights) -> Weights:
    weights = _leaves(objective.weights)
    loss = objective.at(weights, batch)
    first = derivative(loss, list(weights.values()), again=True)
    pairs = [(g, vector[n]) for n, g in zip(weights, first, strict=True) if g is not None and n in vector]
    inner = sum(((g * v).sum() for g, v in pairs), torch.zeros((), dtype=loss.dtype, device=loss.device))
    zeros = {n: torch.zeros_like(w) for n, w in weights.items()}
    if not inner.requires_grad:
        return zeros
    second = derivative(inner, list(weights.values()))
    return {n: zeros[n] if h is None else h.detach() for n, h in zip(weights, second, strict=True)}


def _signs(shapes: Weights, generator: torch.Generator) -> Weights:
    """A Rademacher vector."""
    return {
        n: torch.randint(0, 2, w.shape, generator=generator, device=generator.device).mul_(2).sub_(1).to(w)
        for n, w in shapes.items()
    }


def traces(objective: Objective, probes: int = 32, seed: int = 0) -> dict[str, Estimate]:
    """The trace of each weight's own block of the Hessian, by name, from one product with it for each probe and batch.

    The variance of a probe is ``2 (|H|^2 - sum H_ii^2)`` over what a weight's rows meet, other layers included.
    """
    generator = _generator(probes, seed)
    table: dict[str, list[list[float]]] = {n: [] for n in objective.weights}
    for _ in range(probes):
        signs = _signs(objective.weights, generator)
        found = [_batch_product(objective, batch, signs) for batch in objective.batches]
        for name, rows in table.items():
            rows.append([float((signs[name].double() * f[name].double()).sum()) for f in found])
    shares = objective.shares()
    return {name: estimate(rows, shares) for name, rows in table.items()}


def estimate(rows: Sequence[Sequence[float]], shares: Sequence[float]) -> Estimate:
    """The mean of ``[probe][batch]`` with the batches' shares, and its errors."""
    values, weight = np.asarray(rows, dtype=np.float64), np.asarray(shares)
    by_probe, by_batch = values @ weight, values.mean(axis=0)
    probes, batches = values.shape
    mean = float(by_probe.mean())
    probe_error = float(by_probe.std(ddof=1)) / sqrt(probes) if probes > 1 else None
    data_error = None
    if batches > 1:
        spread = float((weight * (by_batch - mean) ** 2).sum()) * batches / (batches - 1)
        if probes > 1:  # means over few probes differ from batch to batch without any difference in the data
            own = (values - by_probe[:, None]).var(axis=0, ddof=1) / probes
            spread -= float((weight * own).sum()) * batches / (batches - 1)
        data_error = sqrt(max(spread, 0.0) * float((weight**2).sum()))
    return Estimate(mean, probe_error, data_error, probes)


def diagonal(objective: Objective, probes: int = 32, seed: int = 0) -> Weights:
    """The Hessian's diagonal: the mean of ``v * (H v)`` over Rademacher probes, signs kept (unbiased)."""
    generator = _generator(probes, seed)
    total = {n: torch.zeros_like(w) for n, w in objective.weights.items()}
    for _ in range(probes):
        signs = _signs(objective.weights, generator)
        for name, value in product(objective, signs).items():
            total[name] += signs[name] * value / probes
    return total


def activation_traces(
    objective: Objective, names: Sequence[str] | None = None, probes: int = 32, seed: int = 0
) -> dict[str, Estimate]:
    """The mean over samples of the trace of each sample's Hessian by one value of the model (HAWQ-V2's ``Tr H_a``).

    Args:
        objective: of a module, whose values are the outputs of its submodules, or of a program, whose values are its
            tensors.
        names: the values; all that are floats and that the loss depends on by default.
        probes: Rademacher vectors over all samples of a batch; samples do not meet in the loss (no batch statistics).
        seed: of the probes.
    """
    with differentiating():
        return _activation_traces(objective, names, probes, _generator(probes, seed))


def _activation_traces(
    objective: Objective, names: Sequence[str] | None, probes: int, generator: torch.Generator
) -> dict[str, Estimate]:
    table: dict[str, list[list[float]]] = {}
    for number, batch in enumerate(objective.batches):
        values: Weights = {}
        weights = _leaves(objective.weights)

        def tell(name: str, value: torch.Tensor, values: Weights = values) -> None:
            if value.is_floating_point() and value.requires_grad and (names is None or name in names):
                values.setdefault(name, value)

        loss = objective.at(weights, batch, tell) * objective.size(batch[0])
        missing = [n for n in names or () if n not in values]
        if missing:
            raise UnknownName("value", missing[0], values)
        for name, value in values.items():
            found = _value_traces(loss, value, probes, generator)
            if found is not None:
                rows = table.setdefault(name, [[] for _ in range(probes)])
                for row, one in zip(rows, found, strict=True):
                    row.append(one / objective.size(batch[0]))
        table = {n: rows for n, rows in table.items() if len(rows[0]) == number + 1}
    shares = objective.shares()
    return {name: estimate(rows, shares) for name, rows in table.items()}


def _value_traces(
    loss: torch.Tensor, value: torch.Tensor, probes: int, generator: torch.Generator
) -> list[float] | None:
    (first,) = derivative(loss, [value], again=True)
    if first is None:
        return None
    found = []
    for _ in range(probes):
        signs = _signs({"v": value}, generator)["v"]
        second = derivative(first, [value], signs)[0] if first.requires_grad else None
        found.append(0.0 if second is None else float((second.double() * signs.double()).sum()))
    return found


def top_eigenvalue(
    objective: Objective, name: str | None = None, seed: int = 0, tolerance: float = 1e-6, restarts: int | None = None
) -> float:
    """The eigenvalue of largest magnitude: of the whole Hessian, or of one weight's own block (HAWQ's metric).

    Args:
        objective: the loss.
        name: of a weight; ``None`` for all of them together.
        seed: of the vector that Lanczos' method starts from.
        tolerance: relative error of the eigenvalue.
        restarts: of Lanczos' method at most, some twenty products each; ten times the number of weights by default.

    Raises:
        LimitExceeded: that many restarts do not reach the tolerance.
        UsageError: a product with the Hessian is not finite.
    """
    if name is not None and name not in objective.weights:
        raise UnknownName("weight", name, objective.weights)
    chosen = {n: w for n, w in objective.weights.items() if name in (None, n)}
    sizes = [w.numel() for w in chosen.values()]
    total = sum(sizes)

    def times(flat: np.ndarray) -> np.ndarray:
        parts = torch.split(torch.from_numpy(np.ascontiguousarray(flat.reshape(-1))), sizes)
        vector = {n: p.reshape(w.shape).to(w) for (n, w), p in zip(chosen.items(), parts, strict=True)}
        found = product(objective, vector)
        return torch.cat([found[n].reshape(-1).double().cpu() for n in chosen]).numpy()

    if total == 1:
        return float(times(np.ones(1))[0])
    start = times(np.random.default_rng(seed).standard_normal(total))
    if not np.isfinite(start).all():
        raise UsageError("objective: a product with its Hessian is not finite; do weights or data hold inf or nan?")
    if not start.any():
        return 0.0
    operator = LinearOperator((total, total), matvec=times, dtype=np.float64)
    try:
        found = eigsh(operator, 1, which="LM", v0=start, tol=tolerance, maxiter=restarts, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        raise LimitExceeded(
            f"top_eigenvalue: no eigenvalue within tolerance={tolerance:g} after {restarts or 10 * total} restarts; "
            "give it more of them, or a larger tolerance"
        ) from error
    return float(found[0])


def _generator(probes: int, seed: int) -> torch.Generator:
    if probes < 1:
        raise UsageError(f"probes={probes}: expected at least 1")
    return torch.Generator().manual_seed(seed)
