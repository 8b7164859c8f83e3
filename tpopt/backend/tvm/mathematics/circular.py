"""sin and its kin on vectors.

Quarter turns are taken off in the same format, for tan in float64: pi / 2 is in three parts, whose products by a fused
multiply-add leave no error that matters (Cody and Waite, 1980). Arguments beyond the bound of that, which hardly any
program has, are left to the C library, and only where a vector holds one. Polynomials are minimax fits by Remez'
exchange or Lawson's reweighting (1961).
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, element_of, extract, lanes_of, literal
from tpopt.backend.tvm.mathematics.floats import (
    DOUBLE,
    SINGLE,
    Bind,
    Make,
    any_lane,
    bits_of,
    copysign,
    float_of,
    fma,
    intrinsic,
    is_nan,
    like,
    nearest,
    negated,
    polynomial,
    size_of,
)
from tpopt.backend.tvm.mathematics.instructions import nearly
from tpopt.backend.tvm.mathematics.library import call
from tpopt.backend.tvm.mathematics.wide import widely
from tpopt.ir import DType

_REDUCIBLE: Final = {"float32": 2.0**20, "float64": 2.0**25}
"""Below it the number of quarter turns and what remains of the argument are exact enough."""
_HALF_PI: Final = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)
"""pi / 2 in three float64 parts."""
_HALF_PI_SINGLE: Final = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
"""pi / 2 in three float32 parts."""
_SIN_SINGLE: Final = (-0.16666650772094727, 0.008331910707056522, -0.00019481322669889778)
"""(sin(r) / r - 1) / r^2 in r^2, for |r| <= 0.83, where rounding in float32 may leave r: 5.7e-9."""
_COS_SINGLE: Final = (-0.5, 0.04166663810610771, -0.00138869509100914, 2.439222407701891e-05)
"""(cos(r) - 1) / r^2 in r^2, likewise: 2.2e-10."""
_SIGN: Final = -(2**31)
"""The bit of a float32's sign."""
_SIN: Final = {
    "float32": (-0.166666666418482, 0.00833332940414372, -0.00019839339372717792, 2.718346587114522e-06),
    "float64": (
        -0.16666666666666632,
        0.008333333333322559,
        -0.0001984126982990353,
        2.7557313720515733e-06,
        -2.5050762087967588e-08,
        1.5897004232843408e-10,
    ),
}
"""(sin(r) / r - 1) / r^2 in r^2, for |r| <= pi / 4: 4.8e-12 and 5.6e-18."""
_COS: Final = {
    "float32": (0.041666666620774985, -0.0013888883587903546, 2.479947935042212e-05, -2.720710715948542e-07),
    "float64": (
        0.0416666666666666,
        -0.001388888888887473,
        2.480158728974602e-05,
        -2.7557314406229344e-07,
        2.0875728457631525e-09,
        -1.1359835173066618e-11,
    ),
}
"""(cos(r) - 1 + r^2 / 2) / r^4 in r^2, likewise: 1.2e-13 and 1.5e-18."""
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


def _reduced(x: Expr, bind: Bind) -> tuple[Expr, Expr, Expr]:
    """What is left of a float64 after whole quarter turns, a correction to it, and their number, shifted."""
    turns, shifted = nearest(x, 0.6366197723675814, bind)
    high = bind(fma(turns, like(-_HALF_PI[0], x), x))
    r = bind(fma(turns, like(-_HALF_PI[1], x), high))
    lost = fma(turns, like(-_HALF_PI[1], x), high - r)
    return r, bind(fma(turns, like(-_HALF_PI[2], x), lost)), shifted


def _sine_and_cosine(x: Expr, kind: str, bind: Bind) -> tuple[Expr, Expr, Expr]:
    """Of what is left, and the number of quarter turns, shifted. ``kind`` says how exactly."""
    r, lost, shifted = _reduced(x, bind)
    square = bind(r * r)
    cube = bind(r * square)
    sine = bind(fma(cube, polynomial(square, _SIN[kind], bind), lost if kind == "float64" else like(0.0, x)) + r)
    rest = bind(bind(square * square) * polynomial(square, _COS[kind], bind))
    half = bind(square * like(0.5, x))
    if kind == "float32":
        return sine, bind(like(1.0, x) - half + rest), shifted
    one = bind(like(1.0, x) - half)
    small = bind(bind(bind(like(1.0, x) - one) - half) + fma(negated(r), lost, rest))
    return sine, bind(one + small), shifted


def _turned(x: Expr, bind: Bind, first: int) -> Expr:
    """sin of x and ``first`` quarter turns."""
    sine, cosine, shifted = _sine_and_cosine(x, "float64", bind)
    turns = bind(bits_of(shifted) + _whole(first - DOUBLE.bias, x))
    sign = tirx.shift_left(tirx.bitwise_and(turns, _whole(2, x)), _whole(62, x))
    chosen = bind(tirx.Select(_odd(turns), cosine, sine))
    return float_of(tirx.bitwise_xor(bits_of(chosen), sign))


def _whole(value: int, sample: Expr) -> Expr:
    return literal(value, DOUBLE.integer, lanes_of(sample))


def _odd(turns: Expr) -> Expr:
    return tirx.NE(tirx.bitwise_and(turns, _whole(1, turns)), _whole(0, turns))


def _tangent(x: Expr, kind: str, bind: Bind) -> Expr:
    sine, cosine, shifted = _sine_and_cosine(x, kind, bind)
    odd = bind(_odd(bits_of(shifted) - _whole(DOUBLE.bias, x)))
    above, below = tirx.Select(odd, negated(cosine), sine), tirx.Select(odd, sine, cosine)
    return nearly(above, below, bind) if kind == "float32" else tirx.Div(above, below)


def _wave(x: Expr, bind: Bind, first: int) -> Expr:
    """sin of |x| and ``first`` quarter turns, all in float32."""
    size = bind(size_of(x))
    turns, shifted = nearest(size, 0.6366197723675814, bind)
    r = size
    for part in _HALF_PI_SINGLE:
        r = bind(fma(turns, like(-part, x), r))
    square = bind(r * r)
    sine = bind(fma(bind(r * square), polynomial(square, _SIN_SINGLE, bind), r))
    cosine = bind(fma(square, polynomial(square, _COS_SINGLE, bind), like(1.0, x)))
    lanes = lanes_of(x)
    number = bind(bits_of(shifted) + literal(first - SINGLE.bias, "int32", lanes))
    odd = tirx.NE(tirx.bitwise_and(number, literal(1, "int32", lanes)), literal(0, "int32", lanes))
    chosen = bind(tirx.Select(odd, cosine, sine))
    sign = tirx.bitwise_and(tirx.shift_left(number, literal(30, "int32", lanes)), literal(_SIGN, "int32", lanes))
    return float_of(tirx.bitwise_xor(bits_of(chosen), sign))


def _sine(x: Expr, bind: Bind) -> Expr:
    if element_of(x) == "float32":
        wave = bind(_wave(x, bind, 0))
        sign = tirx.bitwise_and(bits_of(x), literal(_SIGN, "int32", lanes_of(x)))
        return float_of(tirx.bitwise_xor(bits_of(wave), sign))
    return tirx.Select(tirx.EQ(x, like(0.0, x)), x, bind(_turned(x, bind, 0)))


def _cosine(x: Expr, bind: Bind) -> Expr:
    return _wave(x, bind, 1) if element_of(x) == "float32" else _turned(x, bind, 1)


def _tan(x: Expr, bind: Bind) -> Expr:
    kind = element_of(x)
    if kind == "float32":
        value = bind(widely(lambda y: _tangent(y, kind, bind), [x], bind))
    else:
        value = bind(_tangent(x, kind, bind))
    return tirx.Select(tirx.EQ(x, like(0.0, x)), x, value)


def _periodic(name: str, near: Callable[[Expr, Bind], Expr]) -> Make:
    """``near``, where every lane is; the C library's function where one is not, or only just."""

    def make(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
        x = bind(a[0])
        value = bind(near(x, bind))
        size = bind(size_of(x))
        far = bind(tirx.And(size > like(_REDUCIBLE[element_of(x)], x), size < like(float("inf"), x)))
        return tirx.if_then_else(any_lane(far), _one_by_one(name, x), value)

    return make


def _one_by_one(name: str, x: Expr) -> Expr:
    """The C library's function of each lane."""
    lanes = lanes_of(x)
    if lanes == 1:
        return call(name, x)
    return tirx.Shuffle([call(name, extract(x, k)) for k in range(lanes)], list(range(lanes)))


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


FUNCTIONS: MappingProxyType[str, Make] = MappingProxyType(
    {"sin": _periodic("sin", _sine), "cos": _periodic("cos", _cosine), "tan": _periodic("tan", _tan)}
)
"""On either float type."""

SINGLES: MappingProxyType[str, Make] = MappingProxyType(
    {
        "atan": lambda a, d, bind: atan(a[0], bind),
        "atan2": lambda a, d, bind: atan2(a[0], a[1], bind),
        "asin": lambda a, d, bind: asin(a[0], bind),
        "acos": lambda a, d, bind: acos(a[0], bind),
    }
)
"""On float32."""
