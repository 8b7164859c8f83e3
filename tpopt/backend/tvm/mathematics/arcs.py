"""Arc functions on vectors of float32. Polynomials are minimax fits by Lawson's reweighting (1961)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, lanes_of, literal
from tpopt.backend.tvm.mathematics.floats import (
    Bind,
    Make,
    bits_of,
    copysign,
    fma,
    intrinsic,
    is_nan,
    like,
    polynomial,
    size_of,
)

_ATAN: Final = (
    -0.33333298563957214,
    0.1999852955341339,
    -0.1426401436328888,
    0.10950861126184464,
    -0.08399207890033722,
    0.05787887051701546,
    -0.0310935340821743,
    0.010866272263228893,
    -0.0017821451183408499,
)
"""(atan(a) / a - 1) / a^2 in a^2, for 0 <= a <= 1: 2.6e-9."""
_ASIN: Final = (
    0.16666632890701294,
    0.07502014189958572,
    0.04424645006656647,
    0.03390765190124512,
    0.0070749507285654545,
    0.04709038510918617,
)
"""(asin(a) / a - 1) / a^2 in a^2, for 0 <= a <= 0.56: 1.8e-9."""
_PI: Final = (3.1415927410125732, -8.742277657347586e-08)
"""pi in two float32 parts."""


def _arc(a: Expr, bind: Bind) -> Expr:
    """atan(a) for 0 <= a <= 1."""
    square = bind(a * a)
    return bind(fma(bind(a * square), polynomial(square, _ATAN, bind), a))


def atan(x: Expr, bind: Bind) -> Expr:
    """atan of 1 / x is what is missing to a quarter turn."""
    x = bind(x)
    size = bind(size_of(x))
    steep = bind(size > like(1.0, x))
    arc = _arc(bind(tirx.Select(steep, tirx.Div(like(1.0, x), size), size)), bind)
    rest = bind(like(_PI[0] / 2, x) - bind(arc - like(_PI[1] / 2, x)))
    return copysign(tirx.Select(steep, rest, arc), x)


def atan2(y: Expr, x: Expr, bind: Bind) -> Expr:
    """The angle of (x, y): the arc tangent of the smaller over the larger, then the octants."""
    y, x = bind(y), bind(x)
    tall, wide = bind(size_of(y)), bind(size_of(x))
    steep = bind(tall > wide)
    larger, smaller = bind(tirx.Select(steep, tall, wide)), bind(tirx.Select(steep, wide, tall))
    ratio = bind(tirx.Div(smaller, larger))
    same = bind(tirx.Select(tirx.EQ(larger, like(0.0, x)), like(0.0, x), like(1.0, x)))
    ratio = bind(tirx.Select(tirx.EQ(smaller, larger), same, ratio))
    arc = _arc(ratio, bind)
    arc = bind(tirx.Select(steep, like(_PI[0] / 2, x) - bind(arc - like(_PI[1] / 2, x)), arc))
    left = bits_of(x) < literal(0, "int32", lanes_of(x))
    arc = bind(tirx.Select(left, like(_PI[0], x) - bind(arc - like(_PI[1], x)), arc))
    nan = tirx.Or(is_nan(x), is_nan(y))
    return tirx.Select(nan, x + y, copysign(arc, y))


def _asin_parts(x: Expr, bind: Bind) -> tuple[Expr, Expr]:
    """Where |x| is large, and the arc: of sin |x| where it is not, half that of cos |x| where it is."""
    size = bind(size_of(x))
    large = bind(size > like(0.56, x))
    half = bind(fma(size, like(-0.5, x), like(0.5, x)))
    a = bind(tirx.Select(large, intrinsic("sqrt", half), size))
    square = bind(tirx.Select(large, half, bind(size * size)))
    return large, bind(fma(bind(a * square), polynomial(square, _ASIN, bind), a))


def asin(x: Expr, bind: Bind) -> Expr:
    """Above 0.56 by the half angle of the other side."""
    x = bind(x)
    large, arc = _asin_parts(x, bind)
    twice = bind(arc + arc)
    rest = like(_PI[0] / 2, x) - bind(twice - like(_PI[1] / 2, x))
    return copysign(tirx.Select(large, rest, arc), x)


def acos(x: Expr, bind: Bind) -> Expr:
    """Likewise."""
    x = bind(x)
    large, arc = _asin_parts(x, bind)
    twice = bind(arc + arc)
    below = bind(x < like(0.0, x))
    other = like(_PI[0], x) - bind(twice - like(_PI[1], x))
    signed = bind(copysign(arc, x))
    near = like(_PI[0] / 2, x) - bind(signed - like(_PI[1] / 2, x))
    return tirx.Select(large, tirx.Select(below, other, twice), near)


SINGLES: MappingProxyType[str, Make] = MappingProxyType(
    {
        "atan": lambda a, d, bind: atan(a[0], bind),
        "atan2": lambda a, d, bind: atan2(a[0], a[1], bind),
        "asin": lambda a, d, bind: asin(a[0], bind),
        "acos": lambda a, d, bind: acos(a[0], bind),
    }
)
"""On float32."""
