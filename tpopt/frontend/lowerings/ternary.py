"""Pointwise operators of three operands: choices, bounds, interpolation, fused products."""

from __future__ import annotations

from tpopt.frontend.context import Context, Operand, broadcast
from tpopt.frontend.promotion import Kind, computation_dtype, one_function, pointwise
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, cast, where
from tpopt.ir.terms import Number

lowers = Lowerings()


@lowers("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def choose(ctx: Context, condition: Tensor, yes: Operand, no: Operand) -> Tensor:
    """``yes`` where the condition holds, else ``no``."""
    dtype = computation_dtype(Kind.EXACT, (yes, no))

    def body(*i: Iter) -> Scalar:
        test = cast(broadcast(condition, i, condition.dtype), DType.BOOL)
        return cast(where(test, broadcast(yes, i, dtype), broadcast(no, i, dtype)), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.clamp.default", "aten.clamp.Tensor")
def clamp(ctx: Context, x: Tensor, low: Operand | None = None, high: Operand | None = None) -> Tensor:
    """``min(max(x, low), high)``: ``high`` wins where the bounds cross, NaN stays."""
    bounds = [b for b in (low, high) if b is not None]

    def body(v: Scalar, *rest: Scalar) -> Scalar:
        given = list(rest)
        if low is not None:
            v = apply("max", v, given.pop(0))
        return v if high is None else apply("min", v, given.pop(0))

    return pointwise(ctx, body, x, *bounds, kind=Kind.EXACT)


@lowers("aten.clamp_min.default", "aten.clamp_min.Tensor")
def clamp_min(ctx: Context, x: Tensor, low: Operand) -> Tensor:
    """``max(x, low)``."""
    return clamp(ctx, x, low, None)


@lowers("aten.clamp_max.default", "aten.clamp_max.Tensor")
def clamp_max(ctx: Context, x: Tensor, high: Operand) -> Tensor:
    """``min(x, high)``."""
    return clamp(ctx, x, None, high)


@lowers("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(ctx: Context, start: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """``start + weight*(end-start)``, written from the nearer end as torch does."""

    def body(a: Scalar, b: Scalar, w: Scalar) -> Scalar:
        near, far = a + w * (b - a), b - (b - a) * apply("sub", 1, w)
        if isinstance(weight, (bool, int, float, complex)):
            return near if abs(weight) < 0.5 else far
        return where(apply("lt", apply("abs", w), 0.5), near, far)

    return pointwise(ctx, body, start, end, weight)


@lowers("aten.addcmul.default")
def addcmul(ctx: Context, x: Tensor, a: Tensor, b: Tensor, value: Number = 1) -> Tensor:
    """``x + value*a*b``."""

    def body(x: Scalar, a: Scalar, b: Scalar) -> Scalar:
        return x + (a * b if value == 1 else apply("mul", value, a, b, dtype=x.dtype))

    return pointwise(ctx, body, x, a, b)


@lowers("aten.addcdiv.default")
def addcdiv(ctx: Context, x: Tensor, a: Tensor, b: Tensor, value: Number = 1) -> Tensor:
    """``x + value*a/b``."""

    def body(x: Scalar, a: Scalar, b: Scalar) -> Scalar:
        return x + (a if value == 1 else apply("mul", value, a)) / b

    return pointwise(ctx, body, x, a, b)


@lowers("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(ctx: Context, x: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """``value`` where the mask holds, else ``x``."""

    def body(*i: Iter) -> Scalar:
        return where(broadcast(mask, i, DType.BOOL), broadcast(value, i, ctx.dtype), broadcast(x, i, ctx.dtype))

    return ctx.pointwise(body)


@lowers("aten.threshold.default")
def threshold(ctx: Context, x: Tensor, bound: Number, value: Number) -> Tensor:
    """``value`` where ``x <= bound``, else ``x``."""
    return one_function(ctx, lambda v: where(apply("le", v, bound), value, v), x)
