"""Variances, norms and log-sum-exp: reductions that take more than one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tpopt.frontend.context import Context
from tpopt.frontend.lowerings.reductions import Dims, Reduced, fold, reduced, same
from tpopt.frontend.numerics import wide
from tpopt.frontend.promotion import read_as
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, cast, const, position, reduce, where
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import Number

lowers = Lowerings()


def _mean(ctx: Context, over: Reduced, dtype: DType) -> Tensor:
    """The mean with reduced axes kept."""
    kept = Reduced(over.source, over.along, keep=True)

    def body(*i: Iter) -> Scalar:
        return reduce("sum", kept.iters, cast(kept.read(i), dtype)) / position(kept.count, dtype)

    return ctx.compute(kept.shape, body, "mean")


def _kept(over: Reduced, loops: Sequence[Iter]) -> tuple[IndexLike, ...]:
    """Where a result of the reduction lies in a tensor that keeps the reduced axes."""
    outer = iter(i for a, i in enumerate(loops) if not over.keep or a not in over.along)
    return tuple(0 if a in over.along else next(outer) for a in range(over.source.rank))


def _squared_deviations(over: Reduced, mean: Tensor, loops: Sequence[Iter], dtype: DType) -> Scalar:
    """``sum(|x - mean|²)``."""
    distance = cast(over.read(loops), dtype) - mean.at(_kept(over, loops))
    if not dtype.is_complex:
        return reduce("sum", over.iters, distance * distance)
    real, imag = apply("real", distance), apply("imag", distance)
    return reduce("sum", over.iters, apply("add", apply("mul", real, real), apply("mul", imag, imag)))


def _variance(
    ctx: Context, over: Reduced, mean: Tensor, correction: Number | None, result: DType, root: bool
) -> Tensor:
    dtype = wide(over.source.dtype)
    free = position(over.count, dtype.real) - const(1 if correction is None else correction, dtype.real)

    def body(*i: Iter) -> Scalar:
        found = _squared_deviations(over, mean, i, dtype) / apply("max", free, 0)
        return cast(apply("sqrt", found) if root else found, result)

    return ctx.compute(over.shape, body)


def _correction(unbiased: bool) -> int:
    return 1 if unbiased else 0


@lowers("aten.var.correction", "aten.std.correction")
def variance(
    ctx: Context, x: Tensor, dims: Dims = None, correction: Number | None = None, keepdim: bool = False
) -> Tensor:
    """Squared deviations summed in a second pass, divided by the count less ``correction``; its root for ``std``."""
    over = reduced(x, dims, keepdim)
    mean = _mean(ctx, over, wide(x.dtype))
    return _variance(ctx, over, mean, correction, ctx.dtype, ".std" in ctx.target)


@lowers("aten.var.default", "aten.std.default")
def variance_of_all(ctx: Context, x: Tensor, unbiased: bool = True) -> Tensor:
    """Variance of everything."""
    return variance(ctx, x, None, _correction(unbiased))


@lowers("aten.var.dim", "aten.std.dim")
def variance_over(ctx: Context, x: Tensor, dims: Dims, unbiased: bool = True, keepdim: bool = False) -> Tensor:
    """Variance over axes."""
    return variance(ctx, x, dims, _correction(unbiased), keepdim)


@lowers("aten.var_mean.correction", "aten.std_mean.correction")
def variance_and_mean(
    ctx: Context, x: Tensor, dims: Dims = None, correction: Number | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """Variance (its root for ``std_mean``) and mean."""
    over = reduced(x, dims, keepdim)
    mean = _mean(ctx, over, wide(x.dtype))
    spread = _variance(ctx, over, mean, correction, ctx.dtype, ".std" in ctx.target)
    return spread, ctx.compute(over.shape, lambda *i: cast(mean.at(_kept(over, i)), x.dtype))


@lowers("aten.var_mean.default", "aten.std_mean.default")
def variance_and_mean_of_all(ctx: Context, x: Tensor, unbiased: bool = True) -> tuple[Tensor, Tensor]:
    """Variance and mean of everything."""
    return variance_and_mean(ctx, x, None, _correction(unbiased))


@lowers("aten.var_mean.dim", "aten.std_mean.dim")
def variance_and_mean_over(
    ctx: Context, x: Tensor, dims: Dims, unbiased: bool = True, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """Variance and mean over axes."""
    return variance_and_mean(ctx, x, dims, _correction(unbiased), keepdim)


def powers(value: Scalar, order: float) -> Scalar:
    """``|x|`` to a power, 1 for every non-zero element when the power is 0."""
    if order == 0:
        return cast(apply("ne", value, 0), value.dtype.real)
    size = apply("abs", value)
    if order == 2 and value.dtype.is_complex:
        real, imag = apply("real", value), apply("imag", value)
        return apply("add", apply("mul", real, real), apply("mul", imag, imag))
    if order == 2:
        return value * value
    return size if order == 1 else apply("pow", size, order)


@lowers("aten.linalg_vector_norm.default")
def vector_norm(
    ctx: Context, x: Tensor, order: Number = 2, dims: Dims = None, keepdim: bool = False, *_dtype: object
) -> Tensor:
    """``(sum |x|^p)^(1/p)``; the largest or smallest size for infinite ``p``, the number of non-zeros for 0."""
    assert not isinstance(order, complex)
    over, p = reduced(x, dims, keepdim), float(order)
    dtype = ctx.dtype.complex if x.dtype.is_complex else wide(ctx.dtype)
    if math.isinf(p):
        return fold(ctx, over, "max" if p > 0 else "min", lambda v: apply("abs", cast(v, dtype)), same)

    def finish(total: Scalar) -> Scalar:
        if p in (0, 1):
            return total
        return apply("sqrt", total) if p == 2 else apply("pow", total, 1 / p)

    return fold(ctx, over, "sum", lambda v: powers(cast(v, dtype), p), finish)


@lowers("aten.norm.Scalar")
def norm(ctx: Context, x: Tensor, order: Number = 2) -> Tensor:
    """Norm of everything."""
    return vector_norm(ctx, x, order)


@lowers("aten.norm.ScalarOpt_dim", "aten.norm.ScalarOpt_dim_dtype", "aten.norm.ScalarOpt_dtype")
def norm_over(
    ctx: Context, x: Tensor, order: Number | None = None, dims: Dims = None, keepdim: bool = False, *_dtype: object
) -> Tensor:
    """Norm over axes; order 2 by default."""
    listed = dims if isinstance(dims, (list, tuple, int)) else None
    return vector_norm(ctx, x, 2 if order is None else order, listed, keepdim)


@lowers("aten.logsumexp.default")
def logsumexp(ctx: Context, x: Tensor, dims: Dims, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(x)))``, shifted by the maximum where that is finite."""
    over, dtype = reduced(x, dims, keepdim), wide(ctx.dtype)
    if not dtype.is_float:
        raise ctx.refuse(f"logsumexp over {x.dtype} is left to torch")
    high = ctx.compute(over.shape, lambda *i: _finite(reduce("max", over.iters, cast(over.read(i), dtype))), "max")
    shift = read_as(high, dtype)

    def body(*i: Iter) -> Scalar:
        total = reduce("sum", over.iters, apply("exp", cast(over.read(i), dtype) - shift(*i)))
        return cast(apply("log", total) + shift(*i), ctx.dtype)

    return ctx.compute(over.shape, body)


def _finite(value: Scalar) -> Scalar:
    return where(apply("isinf", value), 0, value)


@lowers("aten.trace.default")
def trace(ctx: Context, x: Tensor) -> Tensor:
    """Sum of the main diagonal."""
    rows, columns = x.shape
    if not (isinstance(rows, int) and isinstance(columns, int)) and rows is not columns:
        raise ctx.refuse("the diagonal of a matrix of symbolic extents has no extent in the index grammar")
    extent = (
        rows if rows is columns or (isinstance(rows, int) and isinstance(columns, int) and rows < columns) else columns
    )
    k = Iter("k0", extent)
    return ctx.compute((), lambda: cast(reduce("sum", (k,), cast(x[k, k], wide(ctx.dtype))), ctx.dtype))
