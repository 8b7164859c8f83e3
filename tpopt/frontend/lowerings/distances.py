"""Distances between rows: all pairs of two matrices, or of one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tpopt.frontend.context import Context
from tpopt.frontend.lowerings.gathers import looked_up
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Index, Iter, Scalar, Size, Tensor, apply, cast, guard, index, iters, reduce, total
from tpopt.ir.stages import Scatter
from tpopt.ir.terms import const

lowers = Lowerings()


def _norm(k: Iter, difference: Scalar, p: float) -> Scalar:
    """The p-norm of a difference over ``k``, as torch computes it for 0, 1, 2, infinity and the rest."""
    size_ = apply("abs", difference)
    if p == 0:
        return total((k,), cast(apply("ne", difference, 0.0), difference.dtype))
    if p == 1:
        return total((k,), size_)
    if p == 2:
        return apply("sqrt", total((k,), apply("mul", difference, difference)))
    if math.isinf(p):
        return apply("max", reduce("max", (k,), size_), 0.0)  # no columns: no distance
    return apply("pow", total((k,), apply("pow", size_, p)), 1 / p)


def _row(source: Tensor, batch: Sequence[Iter], row: Iter, k: Iter, kind: DType) -> Scalar:
    own = batch[len(batch) - (source.rank - 2) :] if source.rank > 2 else ()
    lead = [index(0) if e == 1 else index(i) for i, e in zip(own, source.shape[:-2], strict=True)]
    return cast(source.at([*lead, index(row), index(k)]), kind)


def _all_pairs(ctx: Context, a: Tensor, b: Tensor, p: float) -> Tensor:
    k, kind = Iter("k", a.shape[-1]), wide(ctx.dtype)

    def body(*i: Iter) -> Scalar:
        *batch, row, column = i
        difference = apply("sub", _row(a, batch, row, k, kind), _row(b, batch, column, k, kind))
        return cast(_norm(k, difference, p), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.cdist.default", "aten._cdist_forward.default")
def cdist(ctx: Context, a: Tensor, b: Tensor, p: float, _mode: object) -> Tensor:
    """``(sum[k]{|a[…,i,k] - b[…,j,k]|^p})^(1/p)``, from the differences (not from a product of matrices)."""
    return _all_pairs(ctx, a, b, p)


@lowers("aten._euclidean_dist.default")
def euclidean(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    """The same for ``p = 2``."""
    return _all_pairs(ctx, a, b, 2.0)


@lowers("aten.pdist.default", "aten._pdist_forward.default")
def pdist(ctx: Context, x: Tensor, p: float) -> Tensor:
    """Distances of rows ``i < j`` of one matrix, row by row of the upper triangle."""
    n, kind, k = x.shape[0], wide(ctx.dtype), Iter("k", x.shape[1])
    if isinstance(n, int):
        return _listed_pairs(ctx, x, n, k, p)
    base, out = ctx.compute(ctx.out.shape, lambda _: const(0, ctx.dtype), "zeros"), ctx.fresh(ctx.out.shape, ctx.dtype)
    i, j = iters("i", (n, n))
    difference = apply("sub", cast(x[i, k], kind), cast(x[j, k], kind))
    at = _above(n, i, j)
    ctx.add(
        Scatter(out, base, "set", (i, j), (at,), cast(_norm(k, difference, p), ctx.dtype), guard((1, index(j) - i, n)))
    )
    return out


def _listed_pairs(ctx: Context, x: Tensor, n: int, k: Iter, p: float) -> Tensor:
    """The pairs from a table, so that none is computed and thrown away."""
    kind = wide(ctx.dtype)
    pairs = ctx.table("pairs", np.stack(np.triu_indices(n, 1)).astype(np.int64), DType.I64)

    def body(pair: Iter) -> Scalar:
        first, second = (looked_up(pairs, (index(side), pair), n) for side in (0, 1))
        return cast(_norm(k, apply("sub", cast(x[first, k], kind), cast(x[second, k], kind)), p), ctx.dtype)

    return ctx.pointwise(body)


def _above(n: Size, i: Iter, j: Iter) -> Index:
    """Position of ``(i, j)`` among the entries above the diagonal, row by row."""
    skipped = (index(i) * (index(i) + 1)) // 2
    return index(i) * n - skipped + j - i - 1
