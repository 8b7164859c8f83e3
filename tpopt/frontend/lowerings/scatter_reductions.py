"""Reductions into positions that are data, and writes whose order is data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tpopt.frontend.context import Context, broadcast
from tpopt.frontend.lowerings.cumulative import scan_along
from tpopt.frontend.lowerings.gathers import looked_up, wrapping
from tpopt.frontend.lowerings.scatters import at_positions, element_of, one_axis, one_axis_loops, scatter_stage
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.shapes import is_empty, reshaped
from tpopt.ir import DType, Index, Scalar, Size, Tensor, apply, cast, const, where
from tpopt.ir.aten import torch_dtype
from tpopt.ir.build import linear, unravel
from tpopt.ir.index import IndexLike, product
from tpopt.ir.terms import Number

lowers = Lowerings()

_OPS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}


@dataclass(frozen=True)
class Writes:
    """Values and where they go: ``value(i…)`` to ``at(i…)`` for every point of ``shape``."""

    shape: Sequence[Size]
    at: Callable[..., Sequence[Index]]
    value: Callable[..., Scalar]

    def into(self, ctx: Context, base: Tensor, op: str, value: Scalar | None = None) -> Tensor:
        """The stage that writes them (or one number) into ``base``."""
        given = self.value if value is None else lambda *_i: value
        return scatter_stage(ctx, base, op, self.shape, self.at, given)


def _identity(how: str, dtype: DType) -> Number:
    """What changes nothing under the reduction."""
    if how not in ("amax", "amin"):
        return 1 if how == "prod" else 0
    if dtype is DType.BOOL:
        return how == "amin"
    if dtype.is_float:
        return -math.inf if how == "amax" else math.inf
    limits = torch.iinfo(torch_dtype(dtype))
    return limits.min if how == "amax" else limits.max


def _reduce_into(ctx: Context, x: Tensor, writes: Writes, how: str, include_self: bool) -> Tensor:
    base = x if include_self else writes.into(ctx, x, "set", const(_identity(how, x.dtype), x.dtype))
    found = writes.into(ctx, base, _OPS[how])
    if how != "mean":
        return found
    own = ctx.compute(x.shape, lambda *_i: const(int(include_self), DType.I64), "own")
    count = writes.into(ctx, own, "add", const(1, DType.I64))

    def body(*i: Index) -> Scalar:
        terms = cast(apply("max", count.at(i), 1), x.dtype)
        return apply("div" if x.dtype.is_float or x.dtype.is_complex else "floordiv", found.at(i), terms)

    return ctx.compute(x.shape, body)


@lowers("aten.scatter_reduce.two")
def scatter_reduce(
    ctx: Context, x: Tensor, dim: int, positions: Tensor, source: Tensor, how: str, include_self: bool = True
) -> Tensor:
    """``x`` with the source reduced into where the index tensor says, ``x`` itself taking part or not."""
    writes = Writes(positions.shape, at_positions(x, dim, positions), element_of(source, x))
    return _reduce_into(ctx, x, writes, how, include_self)


@lowers("aten.index_reduce.default")
def index_reduce(
    ctx: Context, x: Tensor, dim: int, positions: Tensor, source: Tensor, how: str, include_self: bool = True
) -> Tensor:
    """The same for whole slices along an axis."""
    writes = Writes(one_axis_loops(x, dim, positions), one_axis(x, dim, positions), element_of(source, x))
    return _reduce_into(ctx, x, writes, how, include_self)


@lowers("aten.put.default")
def put(ctx: Context, x: Tensor, positions: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``x`` with elements written, or added to, by row-major position."""
    if is_empty(x.shape) or is_empty(positions.shape):
        return x

    def at(*i: Index) -> Sequence[Index]:
        return unravel(wrapping(positions, i, product(x.shape)), x.shape)

    def value(*i: Index) -> Scalar:
        return source.at(reshaped(i, positions.shape, source.shape))

    return scatter_stage(ctx, x, "add" if accumulate else "set", positions.shape, at, value)


@lowers("aten.masked_scatter.default")
def masked_scatter(ctx: Context, x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``x`` with the elements under the mask replaced by the source's, in row-major order.

    How many elements the mask has selected so far is one Scan over it, so the work is linear.
    """
    shape, count, available = ctx.out.shape, product(ctx.out.shape), product(source.shape)
    if is_empty(shape) or is_empty(source.shape):
        return ctx.pointwise(lambda *i: broadcast(x, i, ctx.dtype))

    def selected(k: IndexLike) -> Scalar:
        return cast(broadcast(mask, unravel(k, shape), DType.BOOL), DType.I64)

    ones = ctx.compute((count,), selected, "selected")
    (running,) = scan_along(ctx, ones, 0, [const(0, DType.I64)], lambda _t, carry, value: [carry + value])
    order = ctx.compute((count,), lambda k: apply("max", running[k] - 1, 0), "order")

    def body(*i: Index) -> Scalar:
        taken = looked_up(order, (linear(i, shape),), available)
        value = cast(source.at(list(unravel(taken, source.shape))), ctx.dtype)
        return where(broadcast(mask, i, DType.BOOL), value, broadcast(x, i, ctx.dtype))

    return ctx.pointwise(body)
