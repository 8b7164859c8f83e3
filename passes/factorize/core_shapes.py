"""Tucker decompositions of one tensor, and the core shape that loses least within a number of parameters.

A Tucker model of core shape ``r`` of a tensor of shape ``I`` has ``prod r_n + sum I_n r_n`` parameters. The factors of
the higher-order SVD are eigenvectors of Gram matrices. In their basis the tensor becomes its full core, and truncating
that to a leading block loses exactly the energy outside of it: one cumulative sum of squares gives the error of *every*
shape. Where only the singular values of the unfoldings are known, the sum of the kept ones bounds it (*Tucker
packing*). Both objectives grow with every rank, so the last mode's rank follows from the others, which are enumerated:
an exact optimum in milliseconds.

Source: Ghadiri, Fahrbach, Fu, Mirrokni, "Approximately Optimal Core Shapes for Tensor Decompositions", ICML 2023
(packing, its integer program with a grid of splits, and the greedy baselines).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, floor, log, prod

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from tpopt.errors import LimitExceeded, UsageError

Floats = npt.NDArray[np.float64]
Shape = tuple[int, ...]


def parameters(shape: Sequence[int], core: Sequence[int]) -> int:
    """Numbers that a Tucker model holds."""
    return prod(core) + sum(i * r for i, r in zip(shape, core, strict=True))


@dataclass(frozen=True)
class Spectra:
    """A tensor in the basis of its higher-order SVD.

    Attributes:
        shape: the tensor's extents.
        factors: orthonormal columns for each mode, ``[I_n, I_n]``, of falling energy.
        core: the tensor in these bases, as large as itself.
        squares: squared singular values of each mode's unfolding, falling.
    """

    shape: Shape
    factors: tuple[Floats, ...]
    core: Floats
    squares: tuple[Floats, ...]

    @classmethod
    def of(cls, tensor: Floats) -> Spectra:
        """The higher-order SVD, by an eigenproblem of each mode's Gram matrix."""
        if not tensor.size or not np.isfinite(tensor).all():
            raise UsageError("tensor: expected finite numbers, and at least one")
        core = np.asarray(tensor, dtype=np.float64)
        factors, squares = [], []
        for mode in range(core.ndim):
            matrix = unfolded(core, mode)
            values, vectors = np.linalg.eigh(matrix @ matrix.T)
            factors.append(np.ascontiguousarray(vectors[:, ::-1]))
            squares.append(np.maximum(values[::-1], 0.0))
            core = multiplied(core, factors[-1].T, mode)
        return cls(core.shape, tuple(factors), core, tuple(squares))

    @property
    def total(self) -> float:
        """The squared norm."""
        return float(np.square(self.core).sum())

    def energies(self) -> Floats:
        """Squared norm of every leading block of the core: ``[r_1 - 1, ..., r_N - 1]`` for core shape ``r``."""
        found: Floats = np.square(self.core)
        for mode in range(found.ndim):
            found = np.cumsum(found, axis=mode)
        return found

    def truncated(self, core: Shape) -> Floats:
        """The tensor that a leading block of the core stands for."""
        result = self.core[tuple(slice(r) for r in core)]
        for mode, (factor, r) in enumerate(zip(self.factors, core, strict=True)):
            result = multiplied(result, factor[:, :r], mode)
        return result


def multiplied(tensor: Floats, matrix: Floats, mode: int) -> Floats:
    """The tensor with a matrix applied along one mode."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, mode)), 0, mode)


def shapes_within(shape: Shape, budget: int, most: Shape | None = None) -> npt.NDArray[np.int64]:
    """Core shapes of which none within the budget is larger in every mode: ``[count, modes]``.

    The ranks of all modes but the largest are enumerated; its own rank is the largest that fits. ``most`` bounds ranks.
    """
    limits = tuple(min(i, m) for i, m in zip(shape, most or shape, strict=True))
    last = max(range(len(shape)), key=lambda n: shape[n])
    others = [n for n in range(len(shape)) if n != last]
    ranks = np.ones((1, 0), dtype=np.int64)
    volume, length = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    rest = sum(shape)
    for n in others:
        rest -= shape[n]
        own = np.arange(1, min(limits[n], max(budget // shape[n], 1)) + 1, dtype=np.int64)
        volume = (volume[:, None] * own).reshape(-1)
        length = (length[:, None] + shape[n] * own).reshape(-1)
        ranks = np.hstack([np.repeat(ranks, len(own), axis=0), np.tile(own, len(ranks))[:, None]])
        kept = volume + length + rest <= budget
        ranks, volume, length = ranks[kept], volume[kept], length[kept]
    final = np.minimum((budget - length) // (volume + shape[last]), limits[last])
    kept = final >= 1
    found = np.empty((int(kept.sum()), len(shape)), dtype=np.int64)
    found[:, others] = ranks[kept]
    found[:, last] = final[kept]
    return found


def _best(shape: Shape, budget: int, value: Callable[[npt.NDArray[np.int64]], Floats], most: Shape | None) -> Shape:
    candidates = shapes_within(shape, budget, most)
    if not len(candidates):
        least = parameters(shape, [1] * len(shape))
        raise LimitExceeded(
            f"no Tucker model of {shape} has {budget:,} parameters or fewer; the smallest has {least:,}"
        )
    return tuple(int(r) for r in candidates[int(np.argmax(value(candidates)))])


def least_error(spectra: Spectra, budget: int, most: Shape | None = None) -> Shape:
    """The core shape whose truncated higher-order SVD loses least of all within ``budget`` parameters."""
    energies = spectra.energies()
    return _best(spectra.shape, budget, lambda r: energies[tuple((r - 1).T)], most)


def packing(squares: Sequence[Floats], budget: int) -> Shape:
    """The optimum of Tucker packing: the largest sum over modes of kept squared singular values."""
    sums = [np.cumsum(s) for s in squares]
    shape = tuple(len(s) for s in squares)
    return _best(shape, budget, lambda r: np.sum([s[r[:, n] - 1] for n, s in enumerate(sums)], axis=0), None)


def packed_value(squares: Sequence[Floats], core: Shape) -> float:
    """The objective of packing."""
    return float(sum(s[:r].sum() for s, r in zip(squares, core, strict=True)))


def packing_brute(squares: Sequence[Floats], budget: int) -> Shape:
    """The same by looking at every shape."""
    shape = tuple(len(s) for s in squares)
    every = product(*(range(1, i + 1) for i in shape))
    return max((r for r in every if parameters(shape, r) <= budget), key=lambda r: packed_value(squares, r))


def packing_program(squares: Sequence[Floats], budget: int, accuracy: float = 0.5) -> Shape:
    """The paper's approximation scheme: small cores by brute force, others by an integer program for each split.

    A split gives the core ``(1 + accuracy)^k`` parameters and the factors the rest, or the other way round; its program
    is a knapsack of two dimensions over one rank of each mode (a basis of a partition matroid).
    """
    if not accuracy > 0:
        raise UsageError(f"accuracy={accuracy}: expected a number above 0")
    shape = tuple(len(s) for s in squares)
    small = (range(1, min(i, ceil(1 / accuracy)) + 1) for i in shape)
    found = [r for r in product(*small) if parameters(shape, r) <= budget]
    for k in range(floor(log(budget) / log(1 + accuracy)) + 1):
        part = (1 + accuracy) ** k
        for core, factors in ((part, budget - part), (budget - part, part)):
            solved = _split(squares, core, factors) if core >= 1 and factors >= sum(shape) else None
            if solved is not None and parameters(shape, solved) <= budget:
                found.append(solved)
    if not found:
        raise LimitExceeded(f"no Tucker model of {shape} has {budget:,} parameters or fewer")
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


@dataclass(frozen=True)
class Tucker:
    """A core, and for each mode a matrix ``[I_n, r_n]`` with orthonormal columns."""

    core: Floats
    factors: tuple[Floats, ...]

    def whole(self) -> Floats:
        """The tensor it stands for."""
        result = self.core
        for mode, factor in enumerate(self.factors):
            result = multiplied(result, factor, mode)
        return result

    def error(self, tensor: Floats) -> float:
        """Squared error relative to the tensor's squared norm."""
        total = float(np.square(tensor).sum())
        return max(0.0, 1.0 - float(np.square(self.core).sum()) / total) if total else 0.0


def fitted(
    tensor: Floats, core: Shape, sweeps: int = 20, start: Spectra | None = None, tolerance: float = 1e-9
) -> Tucker:
    """A Tucker model by higher-order orthogonal iteration (HOOI) from the truncated higher-order SVD."""
    spectra = Spectra.of(tensor) if start is None else start
    factors = [f[:, :r] for f, r in zip(spectra.factors, core, strict=True)]
    kept = -1.0
    made = _core(tensor, factors)
    for _ in range(sweeps):
        for mode in range(tensor.ndim):
            rest = tensor
            for other in range(tensor.ndim):
                if other != mode:
                    rest = multiplied(rest, factors[other].T, other)
            factors[mode] = leading(unfolded(rest, mode), core[mode])
        made = _core(tensor, factors)
        energy = float(np.square(made).sum())
        if energy - kept <= tolerance * max(energy, 1e-300):
            break
        kept = energy
    return Tucker(made, tuple(factors))


def _core(tensor: Floats, factors: Sequence[Floats]) -> Floats:
    for mode, factor in enumerate(factors):
        tensor = multiplied(tensor, factor.T, mode)
    return tensor


def unfolded(tensor: Floats, mode: int) -> Floats:
    """The tensor as a matrix whose rows are one mode."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def leading(matrix: Floats, rank: int) -> Floats:
    """The leading left singular vectors, by the smaller Gram matrix."""
    rows, columns = matrix.shape
    if rows <= columns:
        return np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]
    vectors = np.linalg.eigh(matrix.T @ matrix)[1][:, ::-1][:, : min(rank, columns)]
    basis, _ = np.linalg.qr(np.hstack([matrix @ vectors, np.eye(rows)[:, : max(0, rank - vectors.shape[1])]]))
    return basis[:, :rank]


def core_shapes(tensor: Floats, budgets: Sequence[int]) -> Iterator[tuple[int, Shape, Tucker]]:
    """For each budget the shape of least error, and the model polished by iteration."""
    spectra = Spectra.of(tensor)
    for budget in budgets:
        shape = least_error(spectra, budget)
        yield budget, shape, fitted(np.asarray(tensor, dtype=np.float64), shape, start=spectra)
