"""Tensors made from nothing but numbers and positions."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.frontend.context import Context, Operand, broadcast
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.ir import DType, Index, Iter, Scalar, Tensor, apply, cast, const, guard, index, position, select

lowers = Lowerings()


def _filled(ctx: Context, value: Operand) -> Tensor:
    return ctx.pointwise(lambda *i: broadcast(value, i, ctx.dtype))


def _constant(value: int) -> Lowering:
    def lower(ctx: Context, *_options: object) -> Tensor:
        return _filled(ctx, value)

    return lower


for _name, _value in (("zeros", 0), ("ones", 1)):
    _suffixes = (f"{_name}.default", f"{_name}_like.default", f"new_{_name}.default")
    lowers(*(f"aten.{s}" for s in _suffixes))(_constant(_value))

# The values of an empty tensor are unspecified, and whoever reads them may be given any: here zeros.
lowers(
    "aten.empty.memory_format",
    "aten.empty_like.default",
    "aten.empty_permuted.default",
    "aten.empty_strided.default",
    "aten.new_empty.default",
    "aten.new_empty_strided.default",
)(_constant(0))


@lowers("aten.full.default", "aten.full_like.default")
def full(ctx: Context, _shape: object, value: Operand, *_options: object) -> Tensor:
    """``value`` everywhere."""
    return _filled(ctx, value)


@lowers("aten.new_full.default")
def new_full(ctx: Context, _like: object, _shape: object, value: Operand, *_options: object) -> Tensor:
    """``value`` everywhere."""
    return _filled(ctx, value)


@lowers("aten.scalar_tensor.default")
def scalar_tensor(ctx: Context, value: Operand, *_options: object) -> Tensor:
    """A 0-d tensor."""
    return _filled(ctx, value)


@lowers("aten.arange.default")
def arange(ctx: Context, _end: Operand, *_options: object) -> Tensor:
    """``0, 1, …``."""
    return ctx.pointwise(lambda i: position(i, ctx.dtype))


@lowers("aten.arange.start")
def arange_start(ctx: Context, start: Operand, _end: Operand, *_options: object) -> Tensor:
    """``start, start + 1, …``."""
    return _progression(ctx, start, 1)


@lowers("aten.arange.start_step")
def arange_step(ctx: Context, start: Operand, _end: Operand, step: Operand = 1, *_options: object) -> Tensor:
    """``start, start + step, …``."""
    return _progression(ctx, start, step)


def _progression(ctx: Context, start: Operand, step: Operand) -> Tensor:
    """``start + step*i``: an index where both are integers (or become so), else computed in f64 and rounded once."""
    first, by = (int(v) if ctx.dtype.is_integer and isinstance(v, float) else v for v in (start, step))
    if isinstance(first, (int, Index)) and isinstance(by, (int, Index)):
        return ctx.pointwise(lambda i: position(index(first) + index(by) * i, ctx.dtype))
    start_, step_ = (broadcast(v, (), DType.F64) for v in (start, step))
    return ctx.pointwise(lambda i: cast(start_ + step_ * position(i, DType.F64), ctx.dtype))


@lowers("aten.linspace.default")
def linspace(ctx: Context, start: Operand, end: Operand, steps: int | Index, *_options: object) -> Tensor:
    """``steps`` points from ``start`` to ``end``, each half counted from its own end so that both are exact."""
    if not ctx.dtype.is_float or isinstance(steps, Index):
        raise ctx.refuse("linspace over integers or with a symbolic number of steps is left to torch")
    first, last = (broadcast(v, (), DType.F64) for v in (start, end))
    by = (last - first) / const(max(steps - 1, 1), DType.F64)

    def body(i: Iter) -> Scalar:
        rising, falling = first + by * position(i, DType.F64), last - by * position(steps - 1 - i, DType.F64)
        return cast(select(guard((0, i, max(steps // 2, 1))), rising, falling), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.eye.default", "aten.eye.m")
def eye(ctx: Context, *_options: object) -> Tensor:
    """Ones on the diagonal."""
    one, zero = const(1, ctx.dtype), const(0, ctx.dtype)
    return ctx.pointwise(lambda i, j: select(guard((0, j - i, 1)), one, zero))


@lowers("aten.tril.default", "aten.triu.default")
def triangle(ctx: Context, x: Tensor, diagonal: int | Index = 0) -> Tensor:
    """The part of the last two axes on and below (or above) a diagonal; zeros elsewhere."""
    lower = ctx.target == "aten.tril.default"
    rows, columns = x.shape[-2:]

    def body(*i: Iter) -> Scalar:
        distance = i[-1] - i[-2]  # of the column from the main diagonal: from 1 - rows to columns - 1
        kept = (1 - index(rows), distance, index(diagonal) + 1) if lower else (diagonal, distance, columns)
        return select(guard(kept), x.at(i), const(0, ctx.dtype))

    return ctx.pointwise(body)


@lowers("aten.one_hot.default")
def one_hot(ctx: Context, x: Tensor, classes: int = -1) -> Tensor:
    """A last axis with a one at the value of ``x``."""
    if index(classes).offset < 0:
        raise ctx.refuse("one_hot without a number of classes depends on data")

    def body(*i: Iter) -> Scalar:
        return cast(apply("eq", cast(x.at(i[:-1]), DType.I64), position(i[-1])), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.tril_indices.default", "aten.triu_indices.default")
def triangle_indices(
    ctx: Context, rows: int | Index, columns: int | Index, offset: int | Index = 0, *_options: object
) -> Tensor:
    """Row and column numbers of a triangle, as a table."""
    import numpy as np

    if isinstance(rows, Index) or isinstance(columns, Index) or isinstance(offset, Index):
        raise ctx.refuse("indices of a triangle of symbolic extents are left to torch")
    pick: Sequence[object] = (np.tril_indices if "tril" in ctx.target else np.triu_indices)(rows, offset, columns)
    table = ctx.table("triangle", np.stack([np.asarray(p) for p in pick]).astype(np.int64), DType.I64)
    return table if ctx.dtype is DType.I64 else ctx.pointwise(lambda i, j: cast(table[i, j], ctx.dtype))
