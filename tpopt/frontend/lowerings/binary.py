"""Pointwise arithmetic of two operands, with torch's type promotion."""

from __future__ import annotations

import math

from tpopt.frontend.context import Context, Operand
from tpopt.frontend.numerics import wide
from tpopt.frontend.promotion import Kind, one_function, pointwise
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.ir import DType, Scalar, Tensor, apply, cast, const, where

lowers = Lowerings()


@lowers("aten.add.Tensor", "aten.add.Scalar")
def add(ctx: Context, x: Operand, y: Operand, alpha: Operand = 1) -> Tensor:
    """``x + alpha*y``."""
    if ctx.dtype is DType.BOOL:
        return pointwise(ctx, lambda a, b: apply("or", a, b), x, y) if alpha else pointwise(ctx, lambda a: a, x)
    if alpha == 1:
        return one_function(ctx, lambda a, b: a + b, x, y)
    return pointwise(ctx, lambda a, b, c: a + c * b, x, y, alpha)


@lowers("aten.sub.Tensor", "aten.sub.Scalar")
def subtract(ctx: Context, x: Operand, y: Operand, alpha: Operand = 1) -> Tensor:
    """``x - alpha*y``."""
    if alpha == 1:
        return one_function(ctx, lambda a, b: a - b, x, y)
    return pointwise(ctx, lambda a, b, c: a - c * b, x, y, alpha)


@lowers("aten.rsub.Tensor", "aten.rsub.Scalar")
def reversed_subtract(ctx: Context, x: Operand, y: Operand, alpha: Operand = 1) -> Tensor:
    """``y - alpha*x``."""
    return subtract(ctx, y, x, alpha)


@lowers("aten.mul.Tensor", "aten.mul.Scalar")
def multiply(ctx: Context, x: Operand, y: Operand) -> Tensor:
    """``x * y``; of bools ``and``."""
    if ctx.dtype is DType.BOOL:
        return one_function(ctx, lambda a, b: apply("and", a, b), x, y)
    return one_function(ctx, lambda a, b: a * b, x, y)


@lowers("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor", "aten.true_divide.Scalar")
def divide(ctx: Context, x: Operand, y: Operand) -> Tensor:
    """``x / y``; integers become floats first."""
    return pointwise(ctx, lambda a, b: a / b, x, y, kind=Kind.FLOAT)


@lowers("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def divide_mode(ctx: Context, x: Operand, y: Operand, rounding_mode: str | None = None) -> Tensor:
    """``x / y``, rounded towards zero or down when asked."""
    if rounding_mode is None:
        return divide(ctx, x, y)
    if rounding_mode == "floor":
        return floor_divide(ctx, x, y)
    return one_function(ctx, lambda a, b: apply("truncdiv", a, b), x, y)


@lowers("aten.floor_divide.default", "aten.floor_divide.Scalar")
def floor_divide(ctx: Context, x: Operand, y: Operand) -> Tensor:
    """``floor(x / y)``."""
    return pointwise(ctx, lambda a, b: apply("floordiv", a, b), x, y)


@lowers("aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def power(ctx: Context, x: Operand, y: Operand) -> Tensor:
    """``x ** y``."""
    return pointwise(ctx, lambda a, b: apply("pow", a, b), x, y)


_POWERS = {
    0.5: lambda v: apply("sqrt", v),
    -0.5: lambda v: apply("rsqrt", v),
    -1.0: lambda v: apply("reciprocal", v),
    -2.0: lambda v: apply("reciprocal", v * v),
}


@lowers("aten.pow.Tensor_Scalar")
def power_scalar(ctx: Context, x: Tensor, y: Operand) -> Tensor:
    """``x ** y``; small exponents as products, so that what they are made of shows."""
    if y == 1 and x.dtype is ctx.dtype:
        return x

    def body(v: Scalar, _exponent: Scalar) -> Scalar:
        if y == 2:
            return v * v
        if y == 3:
            return v * v * v
        if (v.dtype.is_float or v.dtype.is_complex) and y in _POWERS:
            return _POWERS[y](v)  # type: ignore[index]
        return apply("pow", v, y)  # type: ignore[arg-type]

    return pointwise(ctx, body, x, y) if isinstance(y, (bool, int, float, complex)) else power(ctx, x, y)


def _function(name: str, kind: Kind) -> Lowering:
    def lower(ctx: Context, x: Operand, y: Operand) -> Tensor:
        return pointwise(ctx, lambda a, b: apply(name, a, b), x, y, kind=kind)

    return lower


def _remainder(name: str) -> Lowering:
    """Numbers are rounded to half beside half tensors, as in torch: a remainder is not continuous."""

    def lower(ctx: Context, x: Operand, y: Operand) -> Tensor:
        def body(a: Scalar, b: Scalar) -> Scalar:
            return apply(name, cast(a, wide(a.dtype)), cast(b, wide(b.dtype)))

        return pointwise(ctx, body, x, y, kind=Kind.EXACT)

    return lower


lowers("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor")(_remainder("mod"))
lowers("aten.fmod.Tensor", "aten.fmod.Scalar")(_remainder("fmod"))
for _target, _name, _kind in (
    ("atan2.default", "atan2", Kind.FLOAT),
    ("hypot.default", "hypot", Kind.FLOAT),
    ("copysign.Tensor", "copysign", Kind.FLOAT),
    ("copysign.Scalar", "copysign", Kind.FLOAT),
    ("maximum.default", "max", Kind.EXACT),
    ("max.other", "max", Kind.EXACT),
    ("minimum.default", "min", Kind.EXACT),
    ("min.other", "min", Kind.EXACT),
    ("fmax.default", "fmax", Kind.EXACT),
    ("fmin.default", "fmin", Kind.EXACT),
):
    lowers(f"aten.{_target}")(_function(_name, _kind))


@lowers("aten.xlogy.Tensor", "aten.xlogy.Scalar_Self", "aten.xlogy.Scalar_Other")
def xlogy(ctx: Context, x: Operand, y: Operand) -> Tensor:
    """``x * log(y)``, 0 where ``x`` is 0, NaN where ``y`` is NaN."""
    return pointwise(ctx, lambda a, b: _times_log(a, b, "log"), x, y, kind=Kind.FLOAT)


@lowers("aten.special_xlog1py.default", "aten.special_xlog1py.self_scalar", "aten.special_xlog1py.other_scalar")
def xlog1py(ctx: Context, x: Operand, y: Operand) -> Tensor:
    """``x * log(1 + y)``, 0 where ``x`` is 0, NaN where ``y`` is NaN."""
    return pointwise(ctx, lambda a, b: _times_log(a, b, "log1p"), x, y, kind=Kind.FLOAT)


def _times_log(a: Scalar, b: Scalar, log: str) -> Scalar:
    return where(apply("isnan", b), math.nan, where(apply("eq", a, 0), 0, a * apply(log, b)))


@lowers("aten.logaddexp.default")
def logaddexp(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """``log(exp(x) + exp(y))`` without overflow."""
    return pointwise(ctx, lambda a, b: log_of_sum(a, b, "exp"), x, y)


@lowers("aten.logaddexp2.default")
def logaddexp2(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """``log2(2**x + 2**y)`` without overflow."""
    return pointwise(ctx, lambda a, b: log_of_sum(a, b, "exp2"), x, y)


def log_of_sum(a: Scalar, b: Scalar, exp: str = "exp") -> Scalar:
    """``max + log(1 + exp(-|a-b|))``; equal infinities stay as they are."""
    if a.dtype.is_complex:
        return _complex_log_of_sum(a, b)
    grown = apply("log1p", apply(exp, -apply("abs", a - b)))
    grown = grown if exp == "exp" else apply("mul", grown, 1 / math.log(2))
    same_infinity = apply("and", apply("isinf", a), apply("eq", a, b))
    return where(same_infinity, a, apply("max", a, b) + grown)


def _complex_log_of_sum(a: Scalar, b: Scalar) -> Scalar:
    """The same, shifted by the operand with the larger real part; its phase is not wrapped."""
    larger = apply("ge", apply("real", a), apply("real", b))
    high, low = where(larger, a, b), where(larger, b, a)
    same_infinity = apply("and", apply("isinf", apply("real", a)), apply("eq", apply("real", a), apply("real", b)))
    return where(same_infinity, high, high + apply("log1p", apply("exp", low - high)))


@lowers("aten.heaviside.default")
def heaviside(ctx: Context, x: Tensor, values: Tensor) -> Tensor:
    """0 below zero, 1 above, ``values`` at zero."""

    def body(a: Scalar, b: Scalar) -> Scalar:
        step = where(apply("gt", a, 0), const(1, b.dtype), 0)
        return where(apply("eq", a, 0), b, step)

    return pointwise(ctx, body, x, values, kind=Kind.EXACT)
