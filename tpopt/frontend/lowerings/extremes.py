"""Extremes with their positions. NaN wins, then the extreme, then the smaller position."""

from __future__ import annotations

from tpopt.frontend.context import Context
from tpopt.frontend.lowerings.reductions import Reduced, reduced
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Scalar, Tensor, cast, const, position, reduce
from tpopt.ir.build import linear
from tpopt.ir.dtypes import DType

lowers = Lowerings()


@lowers("aten.max.dim", "aten.min.dim")
def extreme_and_position(ctx: Context, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor | None, ...]:
    """The largest (smallest) value along an axis and where it is."""
    monoid = ctx.target.split(".")[1]
    if not x.rank:
        zero = ctx.compute((), lambda: const(0, DType.I64), "position") if ctx.used[1] else None
        return x, zero
    over = reduced(x, dim, keepdim)
    if not ctx.used[1]:
        return ctx.compute(over.shape, lambda *i: reduce(monoid, over.iters, over.read(i))), None
    return ctx.many(over.shape, lambda *i: [_arg(f"arg{monoid}", over, i, pick) for pick in (0, 1)])


@lowers("aten.argmax.default", "aten.argmin.default")
def position_of_extreme(ctx: Context, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest (smallest) value is: along an axis, or in row-major order of everything."""
    monoid = ctx.target.split(".")[1]
    if not x.rank:
        return ctx.compute((), lambda: const(0, DType.I64))
    over = reduced(x, dim, keepdim)
    return ctx.compute(over.shape, lambda *i: cast(_arg(monoid, over, i, 1), ctx.dtype))


def _arg(monoid: str, over: Reduced, loops: tuple[Iter, ...], pick: int) -> Scalar:
    where = linear(over.iters, [i.extent for i in over.iters])
    return reduce(monoid, over.iters, over.read(loops), position(where), pick=pick)
