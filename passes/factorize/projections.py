"""The nearest structured matrix or kernel to a weight, in closed form.

Each function returns factors; :func:`multiplied_out` of the same structure gives the weight that they stand for.

Sources: Eckart and Young 1936 (low rank); Van Loan and Pitsianis 1993 (sums of Kronecker products by rearrangement);
Dao et al., "Monarch", ICML 2022 (products of two block-diagonal matrices, block by block of rank one); Qiu et al.,
"Compute Better Spent: Replacing Dense Layers with Structured Matrices", ICML 2024 (block tensor train); Oseledets 2011
(tensor train by successive SVDs); Wang et al., "SVD-LLM", ICLR 2025, and Yuan et al. 2023 (input covariance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from tpopt.errors import UsageError
from tpopt.passes.factorize.core_shapes import leading, unfolded

Floats = npt.NDArray[np.float64]

UNRESOLVED: Final = 1e-12
"""Squared singular values that are smaller, relative to the largest, have no accurate vectors in a Gram matrix."""


@dataclass(frozen=True)
class Spectrum:
    """The singular values and the shorter side's vectors of a matrix, or of each in a batch, by its Gram matrix.

    ``values`` are squared singular values, falling. The error of a subspace enters that of a projection squared, so the
    loss is the optimum's to rounding although small singular values themselves are not; where a rank reaches down to
    those, the matrix is decomposed itself.
    """

    matrix: Floats
    values: Floats
    vectors: Floats

    @classmethod
    def of(cls, matrix: Floats) -> Spectrum:
        """Of ``[..., rows, columns]``."""
        matrix = np.asarray(matrix, dtype=np.float64)
        turned = matrix.swapaxes(-1, -2)
        values, vectors = np.linalg.eigh(turned @ matrix if _is_tall(matrix) else matrix @ turned)
        return cls(matrix, np.maximum(values[..., ::-1], 0.0), vectors[..., ::-1])

    def error(self, rank: int) -> float:
        """The relative Frobenius error of the nearest one of that rank."""
        total = float(self.values.sum())
        return sqrt(float(self.values[..., rank:].sum()) / total) if total else 0.0

    def split(self, rank: int) -> tuple[Floats, Floats]:
        """``left @ right`` is the nearest matrix of that rank; both carry half of the scale."""
        if (self.values[..., rank - 1] < UNRESOLVED * self.values[..., 0]).any():
            left, scales, right = np.linalg.svd(self.matrix, full_matrices=False)
            root = np.sqrt(scales[..., :rank])
            return left[..., :rank] * root[..., None, :], right[..., :rank, :] * root[..., None]
        basis = self.vectors[..., :rank]
        if _is_tall(self.matrix):
            left, right = self.matrix @ basis, basis.swapaxes(-1, -2)
            scale = np.sqrt(np.maximum(np.linalg.norm(left, axis=-2, keepdims=True), 1e-300))
            return left / scale, right * scale.swapaxes(-1, -2)
        left, right = basis, basis.swapaxes(-1, -2) @ self.matrix
        scale = np.sqrt(np.maximum(np.linalg.norm(right, axis=-1, keepdims=True), 1e-300))
        return left * scale.swapaxes(-1, -2), right / scale


def _is_tall(matrix: Floats) -> bool:
    rows, columns = matrix.shape[-2:]
    return int(rows) > int(columns)


@dataclass(frozen=True)
class LowRank:
    """``weight[o, i] ~ sum_r left[o, r] right[r, i]``."""

    left: Floats
    right: Floats

    @classmethod
    def of(cls, weight: Floats, rank: int, covariance: Floats | None = None) -> LowRank:
        """The nearest of that rank: in the Frobenius norm or, with a ``covariance`` of the inputs, in the outputs'.

        ``covariance[i, j]`` is the mean of ``x_i x_j``: the result minimizes the mean of ``|W x - L R x|^2``.
        """
        fits = weight.ndim == 2 and 1 <= rank <= min(weight.shape)
        _check(fits, f"rank={rank} of a weight of shape {weight.shape}")
        if covariance is None:
            return cls(*Spectrum.of(weight).split(rank))
        # the principal directions of the outputs: no inverse, which inputs that are always zero lack
        weight = np.asarray(weight, dtype=np.float64)
        outputs = weight @ np.asarray(covariance, dtype=np.float64) @ weight.T
        left = np.ascontiguousarray(np.linalg.eigh(outputs)[1][:, ::-1][:, :rank])
        return cls(left, left.T @ weight)

    def whole(self) -> Floats:
        """The weight it stands for."""
        return self.left @ self.right

    @property
    def factors(self) -> tuple[Floats, ...]:
        return self.left, self.right


@dataclass(frozen=True)
class Tucker2:
    """``weight[o, i, ...] ~ sum left[o, a] core[a, b, ...] right[b, i]``: fewer channels before and after a kernel."""

    left: Floats
    core: Floats
    right: Floats

    @classmethod
    def of(cls, weight: Floats, ranks: tuple[int, int], sweeps: int = 10) -> Tucker2:
        """The higher-order SVD of the two channel modes, polished by orthogonal iteration (a local optimum)."""
        outs, ins = ranks
        _check(
            weight.ndim >= 3 and 1 <= outs <= weight.shape[0] and 1 <= ins <= weight.shape[1],
            f"ranks={ranks} of a weight of shape {weight.shape}",
        )
        tensor = np.asarray(weight, dtype=np.float64)
        right = leading(unfolded(tensor, 1), ins)
        left = leading(unfolded(tensor, 0), outs)
        for _ in range(sweeps):
            left = leading(unfolded(np.einsum("oi...,ib->ob...", tensor, right), 0), outs)
            right = leading(unfolded(np.einsum("oi...,oa->ai...", tensor, left), 1), ins)
        core = np.einsum("oi...,oa,ib->ab...", tensor, left, right)
        return cls(left, core, np.ascontiguousarray(right.T))

    def whole(self) -> Floats:
        """The weight it stands for."""
        whole: Floats = np.einsum("oa,ab...,bi->oi...", self.left, self.core, self.right)
        return whole

    @property
    def factors(self) -> tuple[Floats, ...]:
        return self.left, self.core, self.right


@dataclass(frozen=True)
class SpatialSvd:
    """``weight[o, i, a, b] ~ sum_r left[o, r, b] right[r, i, a]``: a column kernel, then a row kernel."""

    left: Floats
    right: Floats

    @classmethod
    def spectrum(cls, weight: Floats) -> Spectrum:
        """Of the weight as ``[o b, i a]``."""
        _check(weight.ndim == 4, f"a spatial SVD of a weight of shape {weight.shape}")
        o, i, a, b = weight.shape
        return Spectrum.of(weight.transpose(0, 3, 1, 2).reshape(o * b, i * a))

    @classmethod
    def of(cls, weight: Floats, rank: int, spectrum: Spectrum | None = None) -> SpatialSvd:
        """The nearest one; ``spectrum`` is that of the weight, where it is known already."""
        found = cls.spectrum(weight) if spectrum is None else spectrum
        o, i, a, b = weight.shape
        _check(1 <= rank <= min(o * b, i * a), f"rank={rank} of a weight of shape {weight.shape}")
        left, right = found.split(rank)
        return cls(left.reshape(o, b, rank).transpose(0, 2, 1).copy(), right.reshape(rank, i, a))

    def whole(self) -> Floats:
        """The weight it stands for."""
        whole: Floats = np.einsum("orb,ria->oiab", self.left, self.right)
        return whole

    @property
    def factors(self) -> tuple[Floats, ...]:
        return self.left, self.right


@dataclass(frozen=True)
class Kronecker:
    """``weight ~ sum_r outer[r] kron inner[r]``."""

    outer: Floats
    inner: Floats

    @classmethod
    def of(cls, weight: Floats, shape: tuple[int, int], terms: int) -> Kronecker:
        """The nearest sum of ``terms`` products with outer factors of that shape, by Van Loan's rearrangement."""
        rows, columns = weight.shape
        p, q = shape
        _check(rows % p == 0 and columns % q == 0, f"shape={shape} does not divide a weight of shape {weight.shape}")
        m, n = rows // p, columns // q
        _check(1 <= terms <= min(p * q, m * n), f"terms={terms} of a weight of shape {weight.shape}")
        rearranged = weight.reshape(p, m, q, n).transpose(0, 2, 1, 3).reshape(p * q, m * n)
        left, right = Spectrum.of(rearranged).split(terms)
        return cls(left.T.reshape(terms, p, q).copy(), right.reshape(terms, m, n))

    def whole(self) -> Floats:
        """The weight it stands for."""
        _terms, p, q = self.outer.shape
        _, m, n = self.inner.shape
        whole: Floats = np.einsum("rpq,rmn->pmqn", self.outer, self.inner)
        return whole.reshape(p * m, q * n)

    @property
    def factors(self) -> tuple[Floats, ...]:
        return self.outer, self.inner


@dataclass(frozen=True)
class BlockTrain:
    """``weight[(m, n), (p, q)] ~ sum_r left[n, m, p, r] right[p, n, r, q]``: two batches of small products.

    With one term for each pair of blocks it is a Monarch matrix, up to the order of rows.
    """

    left: Floats
    right: Floats

    @classmethod
    def spectrum(cls, weight: Floats, split: tuple[int, int]) -> Spectrum:
        """Of each block ``[m, q]`` for a pair ``(n, p)``: ``split`` says how many parts rows and columns have."""
        rows, columns = weight.shape
        n, p = split
        _check(rows % n == 0 and columns % p == 0, f"split={split} does not divide a weight of shape {weight.shape}")
        return Spectrum.of(weight.reshape(rows // n, n, p, columns // p).transpose(1, 2, 0, 3))

    @classmethod
    def of(cls, weight: Floats, split: tuple[int, int], rank: int, spectrum: Spectrum | None = None) -> BlockTrain:
        """The nearest one: each block by its own SVD; ``spectrum`` is theirs, where it is known already."""
        found = cls.spectrum(weight, split) if spectrum is None else spectrum
        m, q = found.matrix.shape[-2:]
        _check(1 <= rank <= min(m, q), f"rank={rank} of blocks of {m} by {q}")
        left, right = found.split(rank)
        return cls(np.ascontiguousarray(left.transpose(0, 2, 1, 3)), np.ascontiguousarray(right.transpose(1, 0, 2, 3)))

    def whole(self) -> Floats:
        """The weight it stands for."""
        n, m, p, _ = self.left.shape
        q = self.right.shape[-1]
        whole: Floats = np.einsum("nmpr,pnrq->mnpq", self.left, self.right)
        return whole.reshape(m * n, p * q)

    @property
    def factors(self) -> tuple[Floats, ...]:
        return self.left, self.right


@dataclass(frozen=True)
class Train:
    """A tensor train of a matrix (an MPO): ``cores[k]`` is ``[r_k, rows_k, columns_k, r_k+1]``."""

    cores: tuple[Floats, ...]

    @classmethod
    def of(cls, weight: Floats, rows: Sequence[int], columns: Sequence[int], ranks: Sequence[int]) -> Train:
        """By successive SVDs: within ``sqrt(cores - 1)`` of the nearest of these ranks."""
        modes = len(rows)
        _check(
            prod(rows) == weight.shape[0] and prod(columns) == weight.shape[1] and len(columns) == modes,
            f"rows={tuple(rows)} and columns={tuple(columns)} of a weight of shape {weight.shape}",
        )
        _check(len(ranks) == modes - 1 and all(r >= 1 for r in ranks), f"ranks={tuple(ranks)} between {modes} cores")
        order = [axis for k in range(modes) for axis in (k, modes + k)]
        rest = weight.reshape(*rows, *columns).transpose(order).astype(np.float64)
        cores, left = [], 1
        for k in range(modes - 1):
            matrix = rest.reshape(left * rows[k] * columns[k], -1)
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
            rank = min(ranks[k], len(s))
            cores.append(u[:, :rank].reshape(left, rows[k], columns[k], rank))
            rest, left = s[:rank, None] * vt[:rank], rank
        cores.append(rest.reshape(left, rows[-1], columns[-1], 1))
        return cls(tuple(cores))

    def whole(self) -> Floats:
        """The weight it stands for."""
        result = self.cores[0]
        for core in self.cores[1:]:
            result = np.einsum("aijb,bklc->aikjlc", result, core)
            a, i, k, j, m, c = result.shape
            result = result.reshape(a, i * k, j * m, c)
        return result[0, :, :, 0]

    @property
    def factors(self) -> tuple[Floats, ...]:
        return self.cores


def _check(good: bool, what: str) -> None:
    if not good:
        raise UsageError(f"{what}: no such factorization")
