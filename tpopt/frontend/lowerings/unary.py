"""Pointwise functions of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tpopt.frontend.context import Context
from tpopt.frontend.promotion import Kind, one_function, pointwise
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, cast, const, where
from tpopt.ir.aten import torch_dtype

lowers = Lowerings()

_FLOAT_FUNCTIONS = (
    "acos acosh asin asinh atan atanh cos cosh digamma erf erfc erfinv exp exp2 expm1 lgamma log log10 log1p log2 "
    "reciprocal rsqrt sigmoid sin sinh sqrt tan tanh"
).split()
_ROUNDINGS = "ceil floor trunc round".split()


def _float_function(name: str) -> Lowering:
    def lower(ctx: Context, x: Tensor) -> Tensor:
        return pointwise(ctx, lambda v: apply(name, v), x, kind=Kind.FLOAT)

    return lower


def _rounding(name: str) -> Lowering:
    def lower(ctx: Context, x: Tensor) -> Tensor:
        return one_function(ctx, lambda v: apply(name, v), x) if x.dtype.is_float else x

    return lower


for _name in _FLOAT_FUNCTIONS:
    lowers(f"aten.{_name}.default")(_float_function(_name))
for _name in _ROUNDINGS:
    lowers(f"aten.{_name}.default")(_rounding(_name))


@lowers("aten.round.decimals")
def round_decimals(ctx: Context, x: Tensor, decimals: int = 0) -> Tensor:
    """Half-to-even at a decimal place, by scaling as torch does."""
    if not x.dtype.is_float:
        raise ctx.refuse("rounding integers to decimals is left to torch")
    power = float(10 ** abs(decimals))

    def body(v: Scalar) -> Scalar:
        if decimals == 0:
            return apply("round", v)
        scaled = apply("mul" if decimals > 0 else "div", v, power)
        return apply("div" if decimals > 0 else "mul", apply("round", scaled), power)

    return pointwise(ctx, body, x)


@lowers("aten.fix.default")
def fix(ctx: Context, x: Tensor) -> Tensor:
    """Another name of ``trunc``."""
    return one_function(ctx, lambda v: apply("trunc", v), x) if x.dtype.is_float else x


@lowers("aten.abs.default", "aten.absolute.default")
def absolute(ctx: Context, x: Tensor) -> Tensor:
    """``|x|``; of a complex number its modulus."""
    return x if x.dtype is DType.BOOL else ctx.pointwise(lambda *i: apply("abs", x.at(i)))


@lowers("aten.neg.default")
def negative(ctx: Context, x: Tensor) -> Tensor:
    """``-x``."""
    return ctx.pointwise(lambda *i: apply("neg", x.at(i)))


@lowers("aten.sign.default", "aten.sgn.default")
def sign(ctx: Context, x: Tensor) -> Tensor:
    """-1, 0 or 1; of a complex number ``x / |x|``."""
    if x.dtype is DType.BOOL:
        return x
    if not x.dtype.is_complex:
        return ctx.pointwise(lambda *i: apply("sign", x.at(i)))

    def body(v: Scalar) -> Scalar:
        modulus = apply("abs", v)
        zero = apply("eq", modulus, 0)
        return where(zero, 0, v / cast(where(zero, 1, modulus), v.dtype))

    return pointwise(ctx, body, x)


@lowers("aten.frac.default")
def fraction(ctx: Context, x: Tensor) -> Tensor:
    """``x - trunc(x)``."""
    return pointwise(ctx, lambda v: v - apply("trunc", v), x)


@lowers("aten.square.default")
def square(ctx: Context, x: Tensor) -> Tensor:
    """``x * x``."""
    return one_function(ctx, lambda v: apply("and", v, v) if v.dtype is DType.BOOL else v * v, x)


@lowers("aten.sinc.default", "aten.special_sinc.default")
def sinc(ctx: Context, x: Tensor) -> Tensor:
    """``sin(πx) / πx``, 1 at zero."""

    def body(v: Scalar) -> Scalar:
        angle = apply("mul", v, math.pi)
        zero = apply("eq", v, 0)
        return where(zero, 1, apply("sin", angle) / where(zero, 1, angle))

    return pointwise(ctx, body, x, kind=Kind.FLOAT)


@lowers("aten.logical_not.default")
def logical_not(ctx: Context, x: Tensor) -> Tensor:
    """True where ``x`` is zero."""
    return ctx.pointwise(lambda *i: apply("not", cast(x.at(i), DType.BOOL)))


@lowers("aten.bitwise_not.default")
def bitwise_not(ctx: Context, x: Tensor) -> Tensor:
    """Every bit inverted; ``not`` of a bool."""
    return ctx.pointwise(lambda *i: apply("not", x.at(i)))


def _float_test(test: Callable[[Scalar], Scalar], of_integers: bool) -> Lowering:
    def lower(ctx: Context, x: Tensor) -> Tensor:
        if not (x.dtype.is_float or x.dtype.is_complex):
            return ctx.pointwise(lambda *i: const(of_integers, DType.BOOL))
        return ctx.pointwise(lambda *i: test(x.at(i)))

    return lower


def _either(name: str) -> Callable[[Scalar], Scalar]:
    """The test of a real number, or of either part of a complex one."""

    def test(v: Scalar) -> Scalar:
        if v.dtype.is_complex:
            return apply("or", apply(name, apply("real", v)), apply(name, apply("imag", v)))
        return apply(name, v)

    return test


_isnan, _isinf = _either("isnan"), _either("isinf")
lowers("aten.isnan.default")(_float_test(_isnan, of_integers=False))
lowers("aten.isinf.default")(_float_test(_isinf, of_integers=False))
lowers("aten.isfinite.default")(
    _float_test(lambda v: apply("not", apply("or", _isnan(v), _isinf(v))), of_integers=True)
)
lowers("aten.isposinf.default")(_float_test(lambda v: apply("eq", v, math.inf), of_integers=False))
lowers("aten.isneginf.default")(_float_test(lambda v: apply("eq", v, -math.inf), of_integers=False))


@lowers("aten.signbit.default")
def signbit(ctx: Context, x: Tensor) -> Tensor:
    """Whether the sign bit is set (that of -0.0 is)."""
    if x.dtype.is_float:
        return ctx.pointwise(lambda *i: apply("signbit", x.at(i)))
    return ctx.pointwise(lambda *i: apply("lt", x.at(i), 0))


@lowers("aten.nan_to_num.default")
def nan_to_num(
    ctx: Context, x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Non-finite values replaced; infinities become the largest numbers of the type by default."""
    if x.dtype.is_complex:
        raise ctx.refuse("nan_to_num of complex numbers is left to torch")
    if not x.dtype.is_float:
        return x
    finite = torch.finfo(torch_dtype(x.dtype))
    high = finite.max if posinf is None else posinf
    low = finite.min if neginf is None else neginf

    def body(*i: Iter) -> Scalar:
        v = x.at(i)
        bounded = where(apply("eq", v, -math.inf), low, where(apply("eq", v, math.inf), high, v))
        return where(apply("isnan", v), nan or 0.0, bounded)

    return ctx.pointwise(body)
