"""Max pooling: values, positions of the maxima, and the gradient that follows them."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.frontend.adaptive import Adaptive, adaptive
from tpopt.frontend.context import Context
from tpopt.frontend.numerics import lowest, numbers
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.windows import Window, inside, walk, windows
from tpopt.ir import Guard, Index, Iter, Lookup, Scalar, Size, Tensor, index, iters, position, reduce, select
from tpopt.ir.build import linear, unravel
from tpopt.ir.index import product
from tpopt.ir.stages import Scatter
from tpopt.ir.terms import const

lowers = Lowerings()


def _along(
    x: Tensor, out: Tensor, kernel: object, stride: object, padding: object, dilation: object, rank: int
) -> list[Window]:
    taps = numbers(kernel, rank, "kernel size")
    step = stride if stride not in ([], (), None) else taps
    return windows(x.shape[x.rank - rank :], out.shape[out.rank - rank :], taps, step, padding, dilation)


def _read(x: Tensor, i: Sequence[Iter], where: Sequence[Index], real: Guard) -> Scalar:
    lead = [index(k) for k in i[: x.rank - len(where)]]
    return select(real, x.at([*lead, *where]), lowest(x.dtype))


def _maximum(ctx: Context, x: Tensor, along: list[Window], *, positions: bool) -> tuple[Tensor, ...]:
    """Maxima over windows; with ``positions`` also where they are, row-major in the input's last axes."""
    (r, reduced), extents = walk("r", [w.taps for w in along]), [w.extent for w in along]

    def body(*i: Iter) -> tuple[Scalar, ...]:
        p = i[len(i) - len(along) :]
        where, real = [w.position(a, b) for w, a, b in zip(along, p, r, strict=True)], inside(along, p, r)
        value = _read(x, i, where, real)
        if not positions:
            return (reduce("max", reduced, value),)
        return _best(reduced, value, where, extents, real)

    return ctx.many(ctx.out.shape, body)


def _best(
    r: Sequence[Iter], value: Scalar, where: Sequence[Index], extents: Sequence[Size], real: Guard
) -> tuple[Scalar, Scalar]:
    beyond = position(product(extents))  # what is outside loses every tie
    place = select(real, position(linear(where, extents)), beyond)
    if not r:
        return value, place
    return reduce("argmax", r, value, place, pick=0), reduce("argmax", r, value, place, pick=1)


@lowers("aten.max_pool1d.default")
def max_pool1d(
    ctx: Context, x: Tensor, kernel: object, stride: object, padding: object, dilation: object, _ceil: bool
) -> Tensor:
    """Maxima over windows; rounding the result's extent up only shows in its shape."""
    return _maximum(ctx, x, _along(x, ctx.out, kernel, stride, padding, dilation, 1), positions=False)[0]


@lowers("aten.max_pool2d.default")
def max_pool2d(
    ctx: Context, x: Tensor, kernel: object, stride: object, padding: object, dilation: object, _ceil: bool
) -> Tensor:
    """Maxima over windows of the last two axes."""
    return _maximum(ctx, x, _along(x, ctx.out, kernel, stride, padding, dilation, 2), positions=False)[0]


@lowers("aten.max_pool3d.default")
def max_pool3d(
    ctx: Context, x: Tensor, kernel: object, stride: object, padding: object, dilation: object, _ceil: bool
) -> Tensor:
    """Maxima over windows of the last three axes."""
    return _maximum(ctx, x, _along(x, ctx.out, kernel, stride, padding, dilation, 3), positions=False)[0]


def _with_indices(rank: int, ctx: Context, x: Tensor, *window: object) -> tuple[Tensor | None, ...]:
    kernel, stride, padding, dilation, _ceil = window
    found = _maximum(ctx, x, _along(x, ctx.out, kernel, stride, padding, dilation, rank), positions=ctx.used[1])
    return found if ctx.used[1] else (found[0], None)


@lowers("aten.max_pool1d_with_indices.default")
def max_pool1d_with_indices(ctx: Context, x: Tensor, *window: object) -> tuple[Tensor | None, ...]:
    """Maxima and their positions."""
    return _with_indices(1, ctx, x, *window)


@lowers("aten.max_pool2d_with_indices.default")
def max_pool2d_with_indices(ctx: Context, x: Tensor, *window: object) -> tuple[Tensor | None, ...]:
    """Maxima and their positions in the plane."""
    return _with_indices(2, ctx, x, *window)


@lowers("aten.max_pool3d_with_indices.default")
def max_pool3d_with_indices(ctx: Context, x: Tensor, *window: object) -> tuple[Tensor | None, ...]:
    """Maxima and their positions in the volume."""
    return _with_indices(3, ctx, x, *window)


def _adaptive(rank: int, ctx: Context, x: Tensor) -> tuple[Tensor | None, ...]:
    along = adaptive(x.shape[x.rank - rank :], ctx.out.shape[ctx.out.rank - rank :])
    (r, reduced), extents = walk("r", [w.taps for w in along]), [w.extent for w in along]

    def body(*i: Iter) -> tuple[Scalar, ...]:
        where, real = Adaptive.at(along, i[len(i) - rank :], r)
        value = _read(x, i, where, real)
        return _best(reduced, value, where, extents, real) if ctx.used[1] else (reduce("max", reduced, value),)

    found = ctx.many(ctx.out.shape, body)
    return found if ctx.used[1] else (found[0], None)


@lowers("aten.adaptive_max_pool1d.default")
def adaptive_max_pool1d(ctx: Context, x: Tensor, _extents: object) -> tuple[Tensor | None, ...]:
    """Maxima over windows that share the axis evenly, and their positions."""
    return _adaptive(1, ctx, x)


@lowers("aten.adaptive_max_pool2d.default")
def adaptive_max_pool2d(ctx: Context, x: Tensor, _extents: object) -> tuple[Tensor | None, ...]:
    """The same over two axes."""
    return _adaptive(2, ctx, x)


@lowers("aten.adaptive_max_pool3d.default")
def adaptive_max_pool3d(ctx: Context, x: Tensor, _extents: object) -> tuple[Tensor | None, ...]:
    """The same over three axes."""
    return _adaptive(3, ctx, x)


def _follow(rank: int, ctx: Context, grad: Tensor, places: Tensor, op: str) -> Tensor:
    """Zeros, with each gradient written or added where its maximum came from."""
    extents = ctx.out.shape[ctx.out.rank - rank :]
    base = ctx.compute(ctx.out.shape, lambda *_: const(0, ctx.dtype), "zeros")
    out, loops = ctx.fresh(ctx.out.shape, ctx.dtype), iters("i", grad.shape)
    place = Lookup(places, tuple(map(index, loops)), index(0), index(product(extents)))
    at = (*map(index, loops[: grad.rank - rank]), *unravel(index(place), extents))
    ctx.add(Scatter(out, base, op, loops, at, grad.at(loops)))
    return out


@lowers("aten.max_pool2d_with_indices_backward.default")
def max_pool2d_backward(ctx: Context, grad: Tensor, _x: Tensor, *window: object) -> Tensor:
    """Each gradient goes where the maximum was."""
    places = window[-1]
    assert isinstance(places, Tensor)
    return _follow(2, ctx, grad, places, "add")


@lowers("aten.max_pool3d_with_indices_backward.default")
def max_pool3d_backward(ctx: Context, grad: Tensor, _x: Tensor, *window: object) -> Tensor:
    """The same in a volume."""
    places = window[-1]
    assert isinstance(places, Tensor)
    return _follow(3, ctx, grad, places, "add")


@lowers("aten.adaptive_max_pool2d_backward.default")
def adaptive_max_pool2d_backward(ctx: Context, grad: Tensor, _x: Tensor, places: Tensor) -> Tensor:
    """The same for adaptive windows."""
    return _follow(2, ctx, grad, places, "add")


@lowers("aten.max_unpool2d.default")
def max_unpool2d(ctx: Context, x: Tensor, places: Tensor, _extents: object) -> Tensor:
    """Zeros but for the maxima, written back to where they came from."""
    return _follow(2, ctx, x, places, "set")


@lowers("aten.max_unpool3d.default")
def max_unpool3d(ctx: Context, x: Tensor, places: Tensor, *_geometry: object) -> Tensor:
    """The same in a volume."""
    return _follow(3, ctx, x, places, "set")
