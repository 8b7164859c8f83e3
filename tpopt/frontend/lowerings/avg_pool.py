"""Average pooling over sliding and over adaptive windows, and the gradients."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.frontend.adaptive import Adaptive, adaptive
from tpopt.frontend.context import Context
from tpopt.frontend.numerics import numbers, wide
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.windows import Window, covers, exists, touch, walk, windows
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, cast, index, nonnegative, position, select, total
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import Const, const

lowers = Lowerings()


def _divided(value: Scalar, count: Scalar, dtype: DType) -> Scalar:
    divide = "truncdiv" if dtype.is_integer else "div"
    return cast(apply(divide, value, _as_type(count, value.dtype)), dtype)


def _as_type(term: Scalar, dtype: DType) -> Scalar:
    """``term`` as ``dtype``; a literal stays a literal."""
    return const(term.value, dtype) if isinstance(term, Const) else cast(term, dtype)


def _length(w: Window, p: IndexLike, *, with_padding: bool) -> Scalar:
    """Positions under window ``p`` that count: those on the axis, and its padding too if it does."""
    start, last = w.position(p, 0), index(w.extent) + (w.before if with_padding else 0)
    end = start + w.taps
    low: Scalar = position(start)
    if not with_padding and not nonnegative(start):
        low = apply("max", low, 0)
    if nonnegative(last - end):
        return position(w.taps) if low is position(start) else apply("sub", position(end), low)
    return apply("sub", apply("min", position(end), position(last)), low)


def _count(along: Sequence[Window], p: Sequence[IndexLike], include_pad: bool, divisor: int | None) -> Scalar:
    """What the sum over windows ``p`` is divided by."""
    if divisor is not None:
        return const(divisor, DType.I64)
    return _product([_length(w, a, with_padding=include_pad) for w, a in zip(along, p, strict=True)])


def _product(terms: Sequence[Scalar]) -> Scalar:
    literal, rest = 1, []
    for term in terms:
        if isinstance(term, Const):
            literal *= int(term.value.real)
        else:
            rest.append(term)
    value: Scalar = const(literal, DType.I64)
    for term in rest:
        value = term if isinstance(value, Const) and value.value == 1 else apply("mul", value, term)
    return value


def _average(
    rank: int,
    ctx: Context,
    x: Tensor,
    kernel: object,
    stride: object,
    padding: object,
    include_pad: bool,
    divisor: int | None,
) -> Tensor:
    taps = numbers(kernel, rank, "kernel size")
    step = stride if stride not in ([], (), None) else taps
    along = windows(x.shape[x.rank - rank :], ctx.out.shape[x.rank - rank :], taps, step, padding)
    r, summed = walk("r", taps)

    def body(*i: Iter) -> Scalar:
        p = i[x.rank - rank :]
        value = cast(touch(x, i[: x.rank - rank], along, p, r), wide(ctx.dtype))
        return _divided(total(summed, value), _count(along, p, include_pad, divisor), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.avg_pool1d.default")
def avg_pool1d(
    ctx: Context, x: Tensor, kernel: object, stride: object, padding: object, _ceil: bool, include_pad: bool
) -> Tensor:
    """Means over windows; rounding the result's extent up shows in its shape and in the last divisors."""
    return _average(1, ctx, x, kernel, stride, padding, include_pad, None)


@lowers("aten.avg_pool2d.default")
def avg_pool2d(
    ctx: Context,
    x: Tensor,
    kernel: object,
    stride: object,
    padding: object,
    _ceil: bool,
    include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Means over windows of the last two axes."""
    return _average(2, ctx, x, kernel, stride, padding, include_pad, divisor)


@lowers("aten.avg_pool3d.default")
def avg_pool3d(
    ctx: Context,
    x: Tensor,
    kernel: object,
    stride: object,
    padding: object,
    _ceil: bool,
    include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Means over windows of the last three axes."""
    return _average(3, ctx, x, kernel, stride, padding, include_pad, divisor)


def _average_backward(rank: int, ctx: Context, grad: Tensor, x: Tensor, *settings: object) -> Tensor:
    kernel, stride, padding, _ceil, include_pad, divisor = settings
    taps = numbers(kernel, rank, "kernel size")
    step = stride if stride not in ([], (), None) else taps
    along = windows(x.shape[x.rank - rank :], grad.shape[x.rank - rank :], taps, step, padding)
    t, summed = walk("t", [w.covers for w in along])
    assert divisor is None or isinstance(divisor, int)

    def body(*i: Iter) -> Scalar:
        found = covers(along, i[x.rank - rank :], t)
        p = [f.window for f in found]
        value = cast(grad.at([*map(index, i[: x.rank - rank]), *p]), wide(ctx.dtype))
        share = _divided(value, _count(along, p, bool(include_pad), divisor), value.dtype)
        return cast(total(summed, select(exists(found), share, const(0, share.dtype))), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.avg_pool2d_backward.default")
def avg_pool2d_backward(ctx: Context, grad: Tensor, x: Tensor, *settings: object) -> Tensor:
    """Each position sums its shares of the windows over it."""
    return _average_backward(2, ctx, grad, x, *settings)


@lowers("aten.avg_pool3d_backward.default")
def avg_pool3d_backward(ctx: Context, grad: Tensor, x: Tensor, *settings: object) -> Tensor:
    """The same in a volume."""
    return _average_backward(3, ctx, grad, x, *settings)


def _adaptive(rank: int, ctx: Context, x: Tensor) -> Tensor:
    along = adaptive(x.shape[x.rank - rank :], ctx.out.shape[x.rank - rank :])
    r, summed = walk("r", [w.taps for w in along])

    def body(*i: Iter) -> Scalar:
        p = i[x.rank - rank :]
        where, real = Adaptive.at(along, p, r)
        value = select(real, x.at([*map(index, i[: x.rank - rank]), *where]), const(0, x.dtype))
        count = _product([w.lengths(a) for w, a in zip(along, p, strict=True)])
        return _divided(total(summed, cast(value, wide(ctx.dtype))), count, ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.adaptive_avg_pool1d.default")
def adaptive_avg_pool1d(ctx: Context, x: Tensor, _extents: object) -> Tensor:
    """Means over windows that share the axis evenly."""
    return _adaptive(1, ctx, x)


@lowers("aten.adaptive_avg_pool2d.default", "aten._adaptive_avg_pool2d.default")
def adaptive_avg_pool2d(ctx: Context, x: Tensor, _extents: object) -> Tensor:
    """The same over two axes."""
    return _adaptive(2, ctx, x)


@lowers("aten.adaptive_avg_pool3d.default", "aten._adaptive_avg_pool3d.default")
def adaptive_avg_pool3d(ctx: Context, x: Tensor, _extents: object) -> Tensor:
    """The same over three axes."""
    return _adaptive(3, ctx, x)


def _adaptive_backward(rank: int, ctx: Context, grad: Tensor, x: Tensor) -> Tensor:
    """The windows over a position share the other axis evenly too: the same arithmetic with the extents exchanged."""
    extents, counts = x.shape[x.rank - rank :], grad.shape[x.rank - rank :]
    forward, back = adaptive(extents, counts), adaptive(counts, extents)
    r, summed = walk("r", [w.taps for w in back])

    def body(*i: Iter) -> Scalar:
        p, real = Adaptive.at(back, i[x.rank - rank :], r)
        value = cast(grad.at([*map(index, i[: x.rank - rank]), *p]), wide(ctx.dtype))
        count = _product([w.lengths(a) for w, a in zip(forward, p, strict=True)])
        share = _divided(value, count, value.dtype)
        return cast(total(summed, select(real, share, const(0, share.dtype))), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten._adaptive_avg_pool2d_backward.default")
def adaptive_avg_pool2d_backward(ctx: Context, grad: Tensor, x: Tensor) -> Tensor:
    """Each position sums its shares of the windows over it."""
    return _adaptive_backward(2, ctx, grad, x)


@lowers("aten._adaptive_avg_pool3d_backward.default")
def adaptive_avg_pool3d_backward(ctx: Context, grad: Tensor, x: Tensor) -> Tensor:
    """The same in a volume."""
    return _adaptive_backward(3, ctx, grad, x)
