"""Convolution in one to three dimensions, batched or not: direct, transposed, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context
from tpopt.frontend.numerics import number, numbers, products
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.windows import Window, covers, exists, touch, walk, windows
from tpopt.ir import Index, Iter, Scalar, Size, Tensor, apply, cast, guard, index, select, size, total
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import const

lowers = Lowerings()


@dataclass(frozen=True)
class Grouped:
    """Channel arithmetic of a weight ``[filters, channels of a group, …]``: a filter sees the channels of its group."""

    weight: Tensor
    groups: int

    @property
    def channels(self) -> tuple[Iter, ...]:
        """Iterator over a group's channels; none where a group has one (depthwise)."""
        extent = self.weight.shape[1]
        return () if extent == 1 else (Iter("c", extent),)

    def channel(self, f: IndexLike, c: Sequence[IndexLike]) -> Index:
        """The channel of the whole tensor that filter ``f`` sees as its ``c``-th."""
        own = index(c[0]) if c else index(0)
        return own if self.groups == 1 else self.group_of(f) * self.weight.shape[1] + own

    def group_of(self, f: IndexLike) -> Index:
        """The group of filter ``f``."""
        return index(f) // (index(self.weight.shape[0]) // self.groups)


def _lead(i: tuple[Iter, ...], rank: int) -> tuple[tuple[Iter, ...], Iter, tuple[Iter, ...]]:
    """Splits loops into batch (perhaps none), channel and space."""
    return i[: len(i) - rank - 1], i[len(i) - rank - 1], i[len(i) - rank :]


def _biased(ctx: Context, value: Scalar, bias: Tensor | None, channel: Iter) -> Scalar:
    if bias is not None:
        value = apply("add", value, cast(bias[channel], value.dtype))
    return cast(value, ctx.dtype)


def direct(
    ctx: Context,
    shape: Sequence[Size],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    along: list[Window],
    groups: int,
) -> Tensor:
    """``sum[c,r…]{x[n, c, stride*p + dilation*r - padding] * weight[o,c,r…]} + bias[o]``."""
    split, (taps, summed) = Grouped(weight, groups), walk("r", weight.shape[2:])

    def body(*i: Iter) -> Scalar:
        batch, o, p = _lead(i, len(taps))
        c = split.channels
        left = touch(x, [*batch, split.channel(o, c)], along, p, taps)
        right = weight.at([index(o), index(c[0]) if c else index(0), *map(index, taps)])
        return _biased(ctx, products(ctx.dtype, (*c, *summed), left, right), bias, o)

    return ctx.compute(shape, body)


def transposed(
    ctx: Context,
    shape: Sequence[Size],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    along: list[Window],
    groups: int,
) -> Tensor:
    """The adjoint of :func:`direct` in its input, as a sum over the taps that reach each output; no zeros are inserted.

    One stage where that visits at most twice the products of ``x`` and ``weight``. Else (strides that do not divide the
    kernel, few inputs, a stride and a dilation with a common factor) two stages as ATen does it: all products, then the
    sum of those that meet in an output.
    """
    if _visits_in_vain(along):
        return _product_then_gather(ctx, shape, x, weight, bias, along, groups)
    split = Spread(weight, groups)
    c, (t, summed) = Iter("c", split.inputs), walk("t", [w.covers for w in along])

    def body(*i: Iter) -> Scalar:
        batch, o, y = _lead(i, len(t))
        found, (source, filter_) = covers(along, y, t), split.channels(o, c)
        read = x.at([*map(index, batch), source, *(f.window for f in found)])
        tap = weight.at([source, filter_, *(f.tap for f in found)])
        left = select(guard(*(b for f in found for b in f.within)), read, const(0, x.dtype))
        right = select(guard(*(f.real for f in found)), tap, const(0, weight.dtype))
        return _biased(ctx, products(ctx.dtype, (c, *summed), left, right), bias, o)

    return ctx.compute(shape, body)


def _visits_in_vain(along: list[Window]) -> bool:
    """Whether outputs times taps of the one-stage form exceed twice inputs times taps of the kernel."""
    visited, needed = 1, 1
    for w in along:
        taps, covered = number(w.taps, "kernel size"), number(w.covers, "kernel size")
        if isinstance(w.extent, int) and isinstance(w.count, int):
            visited, needed = visited * covered * w.extent, needed * taps * w.count
        else:
            visited, needed = visited * covered * w.stride, needed * taps
    return visited > 2 * needed


def _product_then_gather(
    ctx: Context,
    shape: Sequence[Size],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    along: list[Window],
    groups: int,
) -> Tensor:
    rank, split = len(along), Spread(weight, groups)
    c, (t, summed) = Iter("c", split.inputs), walk("t", [w.covers for w in along])

    def product(*i: Iter) -> Scalar:
        batch, o, r, p = i[: -2 * rank - 1], i[-2 * rank - 1], i[-2 * rank : -rank], i[-rank:]
        source, filter_ = split.channels(o, c)
        left, right = x.at([*map(index, batch), source, *map(index, p)]), weight.at([source, filter_, *map(index, r)])
        return products(ctx.dtype, (c,), left, right)

    outer = shape[: len(shape) - rank]
    every = ctx.compute([*outer, *weight.shape[2:], *x.shape[x.rank - rank :]], product, "products")

    def gather(*i: Iter) -> Scalar:
        batch, o, y = _lead(i, rank)
        found = covers(along, y, t)
        read = every.at([*map(index, batch), index(o), *(f.tap for f in found), *(f.window for f in found)])
        return _biased(ctx, total(summed, select(exists(found), read, const(0, every.dtype))), bias, o)

    return ctx.compute(shape, gather)


@dataclass(frozen=True)
class Spread:
    """Channel arithmetic of the adjoint: a weight ``[inputs, outputs of a group, …]``."""

    weight: Tensor
    groups: int

    @property
    def inputs(self) -> Size:
        """Input channels of one group."""
        return size(index(self.weight.shape[0]) // self.groups)

    def channels(self, o: Iter, c: Iter) -> tuple[Index, Index]:
        """The ``c``-th input channel of the group of output channel ``o``, and ``o`` within its group."""
        if self.groups == 1:
            return index(c), index(o)
        return index(o) // self.weight.shape[1] * self.inputs + c, index(o) % self.weight.shape[1]


def weight_gradient(
    ctx: Context, weight: Tensor, dense: Tensor, strided: Tensor, along: list[Window], groups: int, *, batched: bool
) -> Tensor:
    """``sum[n,p…]{dense[n,f,p…] * strided[n, c, stride*p + dilation*r - padding]}`` at ``[f,c,r…]``."""
    rank, split = len(along), Grouped(weight, groups)
    n = (Iter("n", dense.shape[0]),) if batched else ()
    p, summed = walk("p", [w.count for w in along])

    def body(*i: Iter) -> Scalar:
        f, c, r = i[0], i[1], i[2:]
        left = dense.at([*map(index, n), index(f), *map(index, p)])
        right = touch(strided, [*n, split.channel(f, (c,))], along, p, r)
        return cast(products(ctx.dtype, (*n, *summed), left, right), weight.dtype)

    assert rank == weight.rank - 2
    return ctx.compute(weight.shape, body, "weight")


def _windows(
    x: Tensor, out: Sequence[Size], weight: Tensor, stride: object, before: object, dilation: object
) -> list[Window]:
    rank = weight.rank - 2
    return windows(x.shape[x.rank - rank :], out[len(out) - rank :], weight.shape[2:], stride, before, dilation)


@lowers("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
def conv(
    ctx: Context,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
) -> Tensor:
    """Convolution (cross-correlation) with padding by zeros."""
    along = _windows(x, ctx.out.shape, weight, stride, padding, dilation)
    return direct(ctx, ctx.out.shape, x, weight, bias, along, groups)


@lowers("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def conv_padding(
    ctx: Context,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: object,
    padding: str,
    dilation: object,
    groups: int,
) -> Tensor:
    """The same with padding ``valid`` (none) or ``same`` (the odd one goes behind)."""
    rank = weight.rank - 2
    spread = zip(numbers(dilation, rank, "dilation"), numbers(weight.shape[2:], rank, "kernel size"), strict=True)
    before = [d * (k - 1) // 2 if padding == "same" else 0 for d, k in spread]
    along = _windows(x, ctx.out.shape, weight, stride, before, dilation)
    return direct(ctx, ctx.out.shape, x, weight, bias, along, groups)


@lowers("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    ctx: Context,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: object,
    padding: object,
    _output_padding: object,
    groups: int,
    dilation: object,
) -> Tensor:
    """The adjoint of convolution; output padding only shows in the result's shape."""
    along = _windows(ctx.out, x.shape, weight, stride, padding, dilation)
    return transposed(ctx, ctx.out.shape, x, weight, bias, along, groups)


@lowers("aten.convolution.default")
def convolution(
    ctx: Context,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: object,
    padding: object,
    dilation: object,
    is_transposed: bool,
    output_padding: object,
    groups: int,
) -> Tensor:
    """Either of the two, as torch's backward graphs spell them."""
    if is_transposed:
        return conv_transpose(ctx, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(ctx, x, weight, bias, stride, padding, dilation, groups)


@lowers("aten.convolution_backward.default")
def convolution_backward(
    ctx: Context,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: object,
    stride: object,
    padding: object,
    dilation: object,
    is_transposed: bool,
    _output_padding: object,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients with respect to input, weight and bias, those that ``mask`` asks for."""
    strided, dense = (grad, x) if is_transposed else (x, grad)
    along = _windows(strided, dense.shape, weight, stride, padding, dilation)
    batched = x.rank == weight.rank
    found: list[Tensor | None] = [None, None, None]
    if mask[0]:
        adjoint = direct if is_transposed else transposed
        found[0] = adjoint(ctx, x.shape, grad, weight, None, along, groups)
    if mask[1]:
        found[1] = weight_gradient(ctx, weight, dense, strided, along, groups, batched=batched)
    if mask[2]:
        channel = int(batched)
        summed = [Iter(f"k{a}", e) for a, e in enumerate(grad.shape)]

        def bias_gradient(o: Iter) -> Scalar:
            where = [index(o) if a == channel else index(k) for a, k in enumerate(summed)]
            return cast(
                products(ctx.dtype, [k for a, k in enumerate(summed) if a != channel], grad.at(where)), grad.dtype
            )

        found[2] = ctx.compute([grad.shape[channel]], bias_gradient, "bias")
    return tuple(found)
