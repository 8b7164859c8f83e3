"""Tucker decompositions of one tensor, and the core shape that loses least within a number of parameters.

A Tucker model of core shape ``r`` of a tensor of shape ``I`` has ``prod r_n + sum I_n r_n`` parameters. The factors of
the higher-order SVD are eigenvectors of Gram matrices. In their basis the tensor becomes its full core, and truncating
that to a leading block loses exactly the energy outside of it: one cumulative sum of squares gives the error of *every*
shape. It grows with every rank, so the last mode's rank follows from the others, which are enumerated: an exact optimum
in milliseconds. A budget admits no more than some rank of each mode, so that its basis may be cut there before the next
mode is looked at.

Sources: De Lathauwer, De Moor, Vandewalle, "A Multilinear Singular Value Decomposition", 2000 (the higher-order SVD);
Vannieuwenhoven, Vandebril, Meerbergen, "A New Truncation Strategy for the Higher-Order Singular Value Decomposition",
2012 (cut mode by mode); Ghadiri, Fahrbach, Fu, Mirrokni, "Approximately Optimal Core Shapes for Tensor Decompositions",
ICML 2023 (the problem).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import eigsh

from tpopt.errors import LimitExceeded, UsageError

Floats = npt.NDArray[np.float64]
Shape = tuple[int, ...]

EPSILON: Final = float(np.finfo(np.float64).eps)
ITERATED: Final = 256
"""From so many rows on, few vectors of many are found by Lanczos iteration: 3 ms instead of 24 for 9 of 427."""


def parameters(shape: Sequence[int], core: Sequence[int]) -> int:
    """Numbers that a Tucker model holds."""
    return prod(core) + sum(i * r for i, r in zip(shape, core, strict=True))


def most_ranks(shape: Sequence[int], budget: int) -> Shape:
    """The largest rank of each mode that fits the budget while all others are 1; at least 1."""
    return tuple(max(1, min(i, (budget - sum(shape) + i) // (i + 1))) for i in shape)


@dataclass(frozen=True)
class Spectra:
    """A tensor in the basis of its higher-order SVD.

    Attributes:
        shape: the tensor's extents.
        factors: orthonormal columns for each mode, ``[I_n, K_n]``, of falling energy; all ``I_n`` unless cut.
        core: the tensor in these bases, ``[K_1, ..., K_N]``.
        squares: squared singular values, falling, of each mode's unfolding as it was when its turn came.
        total: the tensor's squared norm.
    """

    shape: Shape
    factors: tuple[Floats, ...]
    core: Floats
    squares: tuple[Floats, ...]
    total: float

    @classmethod
    def of(cls, tensor: Floats, most: Shape | None = None) -> Spectra:
        """The higher-order SVD, by an eigenproblem of each mode's Gram matrix.

        With ``most``, each basis is cut to that many columns before the next mode is looked at. The error of every
        shape up to it stays that of its truncation, in bases that are the higher-order SVD's but for what was cut.
        """
        core = np.ascontiguousarray(tensor, dtype=np.float64)
        shape, total = core.shape, float(np.vdot(core, core))
        if not tensor.size or not np.isfinite(total):
            raise UsageError("tensor: expected at least one number, and a finite sum of squares")
        limits = shape if most is None else tuple(map(min, shape, most))
        factors, squares = [core[:0]] * core.ndim, [core[:0]] * core.ndim
        axes = list(range(core.ndim))
        # what is cut to less than half comes first: it makes all that follows cheaper
        for mode in sorted(axes, key=lambda n: 2 * limits[n] > shape[n]):
            # the mode in question is the first axis, and the last one afterwards: nothing is copied to turn to the next
            at = axes.index(mode)
            matrix = np.moveaxis(core, at, 0).reshape(shape[mode], -1)
            factors[mode], squares[mode] = _basis(matrix, limits[mode])
            axes.append(axes.pop(at))
            core = (matrix.T @ factors[mode]).reshape(*(core.shape[:at] + core.shape[at + 1 :]), -1)
        return cls(shape, tuple(factors), core.transpose(np.argsort(axes)), tuple(squares), total)

    @classmethod
    def within(cls, tensor: Floats, budget: int) -> Spectra:
        """As much of the higher-order SVD as a model of that many parameters can use."""
        return cls.of(tensor, most_ranks(tensor.shape, budget))

    def energies(self) -> Floats:
        """Squared norm of every leading block of the core: ``[r_1 - 1, ..., r_N - 1]`` for core shape ``r``."""
        # with the shortest axis first, whole slices are added but for the last axis, whose rows are the longest
        order = np.argsort(self.core.shape, kind="stable")
        found: Floats = np.square(np.ascontiguousarray(self.core.transpose(order)))
        for axis in range(found.ndim - 1):
            slices = np.moveaxis(found, axis, 0)
            for k in range(1, len(slices)):
                slices[k] += slices[k - 1]
        np.cumsum(found, axis=-1, out=found)
        return found.transpose(np.argsort(order))

    def truncated(self, core: Shape) -> Floats:
        """The tensor that a leading block of the core stands for."""
        result = self.core[tuple(slice(r) for r in core)]
        for mode, (factor, r) in enumerate(zip(self.factors, core, strict=True)):
            result = multiplied(result, factor[:, :r], mode)
        return result


def _basis(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """Leading left singular vectors, ``count`` or as many as have a value, and the squared singular values."""
    rows, columns = matrix.shape
    if count < rows and columns < rows:
        values, right = np.linalg.eigh(matrix.T @ matrix)
        kept = min(count, max(1, int((values > values[-1] * EPSILON * rows).sum())))
        left, _ = np.linalg.qr(matrix @ right[:, ::-1][:, :kept])
        return left, np.maximum(values[::-1][:kept], 0.0)
    gram = matrix @ matrix.T
    if rows >= ITERATED and 16 * count <= rows and gram.any():
        start = np.random.default_rng(0).standard_normal(rows)
        values, vectors = eigsh(gram, count, v0=start, maxiter=rows)
    else:
        values, vectors = np.linalg.eigh(gram)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count]), np.maximum(values[::-1][:count], 0.0)


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


def best_shape(
    shape: Shape, budget: int, value: Callable[[npt.NDArray[np.int64]], Floats], most: Shape | None = None
) -> Shape:
    """The shape of the greatest value, which must not fall where a rank grows; ``value`` takes ``[count, modes]``."""
    candidates = shapes_within(shape, budget, most)
    if not len(candidates):
        least = parameters(shape, [1] * len(shape))
        raise LimitExceeded(
            f"no Tucker model of {shape} has {budget:,} parameters or fewer; the smallest has {least:,}"
        )
    return tuple(int(r) for r in candidates[int(np.argmax(value(candidates)))])


def least_error(spectra: Spectra, budget: int, most: Shape | None = None) -> Shape:
    """The core shape whose truncated higher-order SVD loses least of all within ``budget`` parameters.

    ``most`` bounds the ranks. Raises ``LimitExceeded`` where no model is that small.
    """
    energies = spectra.energies()
    limits = energies.shape if most is None else tuple(map(min, energies.shape, most))
    return best_shape(spectra.shape, budget, lambda r: energies[tuple((r - 1).T)], limits)


def core_shape(tensor: Floats, budget: int) -> Shape:
    """The core shape for a tensor and a number of parameters."""
    return least_error(Spectra.within(tensor, budget), budget)


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
    spectra = Spectra.within(tensor, max(budgets, default=0))
    for budget in budgets:
        shape = least_error(spectra, budget)
        yield budget, shape, fitted(np.asarray(tensor, dtype=np.float64), shape, start=spectra)
