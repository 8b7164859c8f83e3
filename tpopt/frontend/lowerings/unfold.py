"""Sliding blocks as columns and back, and the shuffles between channels and space."""

from __future__ import annotations

from tpopt.frontend.context import Context, axis
from tpopt.frontend.numerics import numbers, wide
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.windows import Window, covers, exists, touch, walk, windows
from tpopt.ir import Index, Iter, Scalar, Size, Tensor, cast, index, select, size, total
from tpopt.ir.build import linear, unravel
from tpopt.ir.terms import const

lowers = Lowerings()


def _blocks(
    extents: tuple[Size, ...], kernel: object, dilation: object, padding: object, stride: object
) -> list[Window]:
    taps, s, d, p = (
        numbers(v, 2, n)
        for v, n in ((kernel, "kernel size"), (stride, "stride"), (dilation, "dilation"), (padding, "padding"))
    )
    counts = [size((index(e) + 2 * p[k] - d[k] * (taps[k] - 1) - 1) // s[k] + 1) for k, e in enumerate(extents)]
    return windows(extents, counts, taps, s, p, d)


@lowers("aten.im2col.default")
def im2col(ctx: Context, x: Tensor, kernel: object, dilation: object, padding: object, stride: object) -> Tensor:
    """``out[n, (c,r,q), (i,j)] = x[n, c, stride*i + dilation*r - padding, …]``."""
    along = _blocks(x.shape[-2:], kernel, dilation, padding, stride)
    taps, counts = [w.taps for w in along], [w.count for w in along]

    def body(*i: Iter) -> Scalar:
        c, *r = unravel(i[-2], [x.shape[-3], *taps])
        return touch(x, [*i[:-2], c], along, unravel(i[-1], counts), r)

    return ctx.pointwise(body)


@lowers("aten.col2im.default")
def col2im(
    ctx: Context, x: Tensor, _extents: object, kernel: object, dilation: object, padding: object, stride: object
) -> Tensor:
    """The adjoint: each position sums the columns of the blocks that cover it."""
    along = _blocks(ctx.out.shape[-2:], kernel, dilation, padding, stride)
    taps, counts = [w.taps for w in along], [w.count for w in along]
    t, summed = walk("t", [w.covers for w in along])

    def body(*i: Iter) -> Scalar:
        found = covers(along, i[-2:], t)
        row, column = (
            linear([i[-3], *(f.tap for f in found)], [ctx.out.shape[-3], *taps]),
            linear([f.window for f in found], counts),
        )
        value = cast(x.at([*map(index, i[:-3]), row, column]), wide(ctx.dtype))
        return cast(total(summed, select(exists(found), value, const(0, value.dtype))), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.unfold.default")
def unfold(ctx: Context, x: Tensor, dim: int, _length: object, step: int) -> Tensor:
    """``out[…, w, …, j] = x[…, step*w + j, …]``."""
    at = axis(dim, x.rank)

    def body(*i: Iter) -> Scalar:
        if not x.rank:
            return x.at([])
        where: list[Index] = [index(k) for k in i[:-1]]
        where[at] = where[at] * step + i[-1]
        return x.at(where)

    return ctx.pointwise(body)


@lowers("aten.pixel_shuffle.default")
def pixel_shuffle(ctx: Context, x: Tensor, factor: int) -> Tensor:
    """``out[…, c, i, j] = x[…, (c, i % f, j % f), i // f, j // f]``."""

    def body(*i: Iter) -> Scalar:
        c, h, w = map(index, i[-3:])
        channel = linear([c, h % factor, w % factor], [ctx.out.shape[-3], factor, factor])
        return x.at([*map(index, i[:-3]), channel, h // factor, w // factor])

    return ctx.pointwise(body)


@lowers("aten.pixel_unshuffle.default")
def pixel_unshuffle(ctx: Context, x: Tensor, factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`."""

    def body(*i: Iter) -> Scalar:
        c, row, column = unravel(i[-3], [x.shape[-3], factor, factor])
        return x.at([*map(index, i[:-3]), c, index(i[-2]) * factor + row, index(i[-1]) * factor + column])

    return ctx.pointwise(body)


@lowers("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(ctx: Context, x: Tensor, groups: int) -> Tensor:
    """Channel ``c`` of the result is channel ``(c % groups, c // groups)`` of ``groups`` blocks."""
    each = size(index(x.shape[1]) // groups)

    def body(*i: Iter) -> Scalar:
        c = index(i[1])
        return x.at([index(i[0]), linear([c % groups, c // groups], [groups, each]), *map(index, i[2:])])

    return ctx.pointwise(body)
