"""Distances between rows."""

from __future__ import annotations

import math

import numpy as np

from tpopt.frontend.context import Context
from tpopt.frontend.lowerings.gathers import looked_up
from tpopt.frontend.lowerings.statistics import powers
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, const, index, reduce

lowers = Lowerings()


def _norm(iters: tuple[Iter, ...], difference: Scalar, order: float) -> Scalar:
    if math.isinf(order):
        return reduce("max", iters, apply("abs", difference))
    total = reduce("sum", iters, powers(difference, order))
    if order in (0, 1):
        return total
    return apply("sqrt", total) if order == 2 else apply("pow", total, 1 / order)


@lowers("aten._cdist_forward.default")
def between(ctx: Context, a: Tensor, b: Tensor, order: float, _mode: int | None = None) -> Tensor:
    """The ``p``-norm of every row of ``a`` less every row of ``b``."""
    k = Iter("k0", a.shape[-1])
    if index(k.extent).constant == 0:
        return ctx.pointwise(lambda *_i: const(0, ctx.dtype))

    def body(*i: Iter) -> Scalar:
        batch = i[:-2]
        return _norm((k,), a.at((*batch, i[-2], k)) - b.at((*batch, i[-1], k)), float(order))

    return ctx.pointwise(body)


@lowers("aten._pdist_forward.default")
def among(ctx: Context, x: Tensor, order: float = 2) -> Tensor:
    """The ``p``-norm of every pair of rows, the pairs in order and listed in a table."""
    rows = x.shape[0]
    if not isinstance(rows, int):
        raise ctx.refuse("pairs among a symbolic number of rows have no table")
    k = Iter("k0", x.shape[1])
    if index(k.extent).constant == 0:
        return ctx.pointwise(lambda *_i: const(0, ctx.dtype))
    pairs = ctx.table("pairs", np.stack(np.triu_indices(rows, 1)).astype(np.int64), DType.I64)

    def body(i: Iter) -> Scalar:
        first, second = (looked_up(pairs, (index(side), i), rows) for side in (0, 1))
        return _norm((k,), x[first, k] - x[second, k], float(order))

    return ctx.pointwise(body)
