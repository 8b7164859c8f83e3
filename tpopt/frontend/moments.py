"""Mean and reciprocal deviation over some axes, and the affine map that normalizations end with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context
from tpopt.frontend.numerics import wide
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, cast, index, position, reduce
from tpopt.ir.index import IndexLike, product
from tpopt.ir.terms import const


def moments(
    ctx: Context,
    kept: Sequence[IndexLike],
    summed: Sequence[Iter],
    read: Callable[..., Scalar],
    eps: float,
    dtype: DType | None = None,
) -> tuple[Tensor, Tensor]:
    """``mean`` and ``1 / sqrt(variance + eps)`` of ``read(*kept)`` over ``summed``, by one Welford reduction.

    The variance is the biased one. Computed in the accumulating type; ``dtype`` is what is stored (default: that type).
    """

    def body(*i: Iter) -> tuple[Scalar, ...]:
        value = read(*i)
        value = cast(value, wide(value.dtype))
        carried = (value, const(0, value.dtype), const(1, value.dtype))
        mean, squares = (reduce("welford", summed, *carried, pick=k) for k in (0, 1))
        rstd = apply("rsqrt", apply("add", apply("div", squares, count(summed, value.dtype)), eps))
        return cast(mean, dtype or value.dtype), cast(rstd, dtype or value.dtype)

    mean, rstd = ctx.many(kept, body)
    return mean, rstd


def count(summed: Sequence[Iter], dtype: DType) -> Scalar:
    """The number of points that ``summed`` visits."""
    return position(product(i.extent for i in summed), dtype)


def affine(value: Scalar, scale: Scalar | None, shift: Scalar | None) -> Scalar:
    """``value * scale + shift``; what is missing is left out."""
    if scale is not None:
        value = apply("mul", value, cast(scale, value.dtype))
    if shift is not None:
        value = apply("add", value, cast(shift, value.dtype))
    return value


def parameter(source: Tensor | None, *where: IndexLike) -> Scalar | None:
    """An optional parameter's value there."""
    return None if source is None else source.at([index(w) for w in where])


def centered(value: Scalar, mean: Scalar, rstd: Scalar) -> Scalar:
    """``(value - mean) * rstd`` in the widest of the types."""
    kind = wide(value.dtype)
    return apply("mul", apply("sub", cast(value, kind), cast(mean, kind)), cast(rstd, kind))
