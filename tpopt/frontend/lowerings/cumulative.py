"""Cumulative operators: one Scan over the axis, linear work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context, axis
from tpopt.frontend.lowerings.binary import log_of_sum
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.ir import (
    Builder,
    DType,
    Index,
    Iter,
    Program,
    Scalar,
    Scan,
    Symbol,
    Tensor,
    apply,
    cast,
    const,
    index,
    position,
    where,
)
from tpopt.ir.terms import Number

lowers = Lowerings()


def scan_along(
    ctx: Context, x: Tensor, along: int, init: Sequence[Scalar], step: Callable[..., Sequence[Scalar]]
) -> tuple[Tensor, ...]:
    """``carry = step(t, carry…, x[t])`` along an axis; every carry, stacked along that axis.

    ``init`` are the first carries (each the same everywhere); ``step`` gets the position as an index, and scalars at
    one point of the other axes.
    """
    shape = [n for a, n in enumerate(x.shape) if a != along]
    over = Iter(ctx.builder.name(f"{ctx.base}.step"), x.shape[along])
    sliced = _move(ctx, x, along, 0)
    carries = [ctx.compute(shape, lambda *_i, v=v: v, "init") for v in init]
    inner = Builder()
    states = [Tensor(inner.name(f"c{k}"), tuple(shape), v.dtype) for k, v in enumerate(init)]
    value = Tensor(inner.name("x"), tuple(shape), x.dtype)
    t = Symbol(over.name)
    results = inner.compute_many("next", shape, lambda *i: step(index(t), *(s.at(i) for s in states), value.at(i)))
    body = Program("step", (*states, value), (), tuple(inner.stages), (*results, *results), symbols=(t,))
    finals = [ctx.fresh(shape, v.dtype, "last") for v in init]
    stacked = [ctx.fresh([x.shape[along], *shape], v.dtype, "all") for v in init]
    ctx.add(Scan((*finals, *stacked), tuple(carries), (sliced,), (), over, body))
    return tuple(_move(ctx, s, 0, along) for s in stacked)


def _move(ctx: Context, x: Tensor, source: int, target: int) -> Tensor:
    if source == target:
        return x
    order = [a for a in range(x.rank) if a != source]
    order.insert(target, source)
    place = {a: k for k, a in enumerate(order)}
    return ctx.compute([x.shape[a] for a in order], lambda *i: x.at([i[place[a]] for a in range(x.rank)]))


def _running(start: Number, join: Callable[[Scalar, Scalar], Scalar]) -> Lowering:
    def lower(ctx: Context, x: Tensor, dim: int, *_dtype: object) -> Tensor:
        dtype = wide(ctx.dtype)
        if not x.rank:
            return ctx.pointwise(lambda: cast(x.at(()), ctx.dtype))

        def step(_t: Index, carry: Scalar, value: Scalar) -> list[Scalar]:
            return [join(carry, cast(value, dtype))]

        (found,) = scan_along(ctx, x, axis(dim, x.rank), [const(start, dtype)], step)
        return found if dtype is ctx.dtype else ctx.pointwise(lambda *i: cast(found.at(i), ctx.dtype))

    return lower


lowers("aten.cumsum.default")(_running(0, lambda c, v: c + v))
lowers("aten.cumprod.default")(_running(1, lambda c, v: c * v))
lowers("aten.logcumsumexp.default", "aten._logcumsumexp.default")(_running(-math.inf, log_of_sum))


@lowers("aten.cummax.default", "aten.cummin.default", "aten._cummax_helper.default", "aten._cummin_helper.default")
def running_extreme(ctx: Context, x: Tensor, dim: int) -> tuple[Tensor, ...]:
    """The extreme so far and the last position that attained it."""
    if not x.rank:
        return x, ctx.compute((), lambda: const(0, DType.I64), "position")
    test = "ge" if "max" in ctx.target else "le"

    def step(t: Index, best: Scalar, where_: Scalar, value: Scalar) -> list[Scalar]:
        better = apply("or", apply(test, value, best), apply("eq", position(t), 0))
        if value.dtype.is_float:
            better = apply("or", apply("isnan", value), apply("and", apply("not", apply("isnan", best)), better))
        return [where(better, value, best), where(better, position(t), where_)]

    return scan_along(ctx, x, axis(dim, x.rank), [const(0, x.dtype), const(0, DType.I64)], step)
