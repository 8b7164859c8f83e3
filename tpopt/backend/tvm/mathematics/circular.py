"""sin and its kin on vectors.

Quarter turns are taken off with pi / 2 in three parts, whose products by a fused multiply-add leave no error that
matters (Cody and Waite, 1980). Arguments beyond the bound of that, which hardly any program has, are left to the C
library, and only where a vector holds one. Polynomials are minimax fits by Remez' exchange or Lawson's reweighting
(1961).
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
    float_of,
    fma,
    like,
    nearest,
    negated,
    polynomial,
    size_of,
)
from tpopt.backend.tvm.mathematics.instructions import reciprocal
from tpopt.backend.tvm.mathematics.library import call
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
_TAN_SINGLE: Final = (
    0.3333337604999542,
    0.13331790268421173,
    0.05415535718202591,
    0.0208062045276165,
    0.012028333730995655,
    -0.0013722198782488704,
    0.005073623266071081,
)
"""(tan(r) / r - 1) / r^2 in r^2, likewise: 3.6e-9."""
_SIGN: Final = -(2**31)
"""The bit of a float32's sign."""
_SIN: Final = (
    -0.16666666666666632,
    0.008333333333322559,
    -0.0001984126982990353,
    2.7557313720515733e-06,
    -2.5050762087967588e-08,
    1.5897004232843408e-10,
)
"""(sin(r) / r - 1) / r^2 in r^2, for |r| <= pi / 4: 5.6e-18."""
_COS: Final = (
    0.0416666666666666,
    -0.001388888888887473,
    2.480158728974602e-05,
    -2.7557314406229344e-07,
    2.0875728457631525e-09,
    -1.1359835173066618e-11,
)
"""(cos(r) - 1 + r^2 / 2) / r^4 in r^2, likewise: 1.5e-18."""


def _reduced(x: Expr, bind: Bind) -> tuple[Expr, Expr, Expr]:
    """What is left of a float64 after whole quarter turns, a correction to it, and their number, shifted."""
    turns, shifted = nearest(x, 0.6366197723675814, bind)
    high = bind(fma(turns, like(-_HALF_PI[0], x), x))
    r = bind(fma(turns, like(-_HALF_PI[1], x), high))
    lost = fma(turns, like(-_HALF_PI[1], x), high - r)
    return r, bind(fma(turns, like(-_HALF_PI[2], x), lost)), shifted


def _sine_and_cosine(x: Expr, bind: Bind) -> tuple[Expr, Expr, Expr]:
    """Of what is left, and the number of quarter turns, shifted."""
    r, lost, shifted = _reduced(x, bind)
    square = bind(r * r)
    cube = bind(r * square)
    sine = bind(fma(cube, polynomial(square, _SIN, bind), lost) + r)
    rest = bind(bind(square * square) * polynomial(square, _COS, bind))
    half = bind(square * like(0.5, x))
    one = bind(like(1.0, x) - half)
    small = bind(bind(bind(like(1.0, x) - one) - half) + fma(negated(r), lost, rest))
    return sine, bind(one + small), shifted


def _turned(x: Expr, bind: Bind, first: int) -> Expr:
    """sin of x and ``first`` quarter turns."""
    sine, cosine, shifted = _sine_and_cosine(x, bind)
    turns = bind(bits_of(shifted) + _whole(first - DOUBLE.bias, x))
    sign = tirx.shift_left(tirx.bitwise_and(turns, _whole(2, x)), _whole(62, x))
    chosen = bind(tirx.Select(_odd(turns), cosine, sine))
    return float_of(tirx.bitwise_xor(bits_of(chosen), sign))


def _whole(value: int, sample: Expr) -> Expr:
    return literal(value, DOUBLE.integer, lanes_of(sample))


def _odd(turns: Expr) -> Expr:
    return tirx.NE(tirx.bitwise_and(turns, _whole(1, turns)), _whole(0, turns))


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


def _slope(x: Expr, bind: Bind) -> Expr:
    """tan of |x| in float32. It is inverted after odd quarter turns, so it is kept in two parts until then."""
    size = bind(size_of(x))
    turns, shifted = nearest(size, 0.6366197723675814, bind)
    first, second, third = (like(-part, x) for part in _HALF_PI_SINGLE)
    exact = bind(fma(turns, first, size))
    rest = bind(fma(turns, second, exact))
    error = fma(turns, second, bind(exact - rest))  # a difference of neighbours, unless little is left
    error = bind(tirx.Select(size_of(rest) > like(0.25, x), error, like(0.0, x)))
    r = bind(fma(turns, third, rest))
    lost = bind(bind(fma(turns, third, bind(rest - r))) + error)
    square = bind(r * r)
    curve = bind(fma(bind(r * square), polynomial(square, _TAN_SINGLE, bind), bind(fma(lost, square, lost))))
    tan = bind(r + curve)
    low = bind(bind(r - tan) + curve)
    inverse = bind(reciprocal(tan, low, bind))
    lanes = lanes_of(x)
    even = tirx.NE(tirx.bitwise_and(bits_of(shifted), literal(1, "int32", lanes)), literal(0, "int32", lanes))
    return bind(tirx.Select(even, tan, negated(inverse)))  # the shifted number has the bias, which is odd, added


def _sine(x: Expr, bind: Bind) -> Expr:
    if element_of(x) == "float32":
        return _flipped(_wave(x, bind, 0), x, bind)
    return tirx.Select(tirx.EQ(x, like(0.0, x)), x, bind(_turned(x, bind, 0)))


def _cosine(x: Expr, bind: Bind) -> Expr:
    return _wave(x, bind, 1) if element_of(x) == "float32" else _turned(x, bind, 1)


def _tangent(x: Expr, bind: Bind) -> Expr:
    if element_of(x) == "float32":
        return _flipped(_slope(x, bind), x, bind)
    sine, cosine, shifted = _sine_and_cosine(x, bind)
    odd = bind(_odd(bits_of(shifted) - _whole(DOUBLE.bias, x)))
    value = bind(tirx.Div(tirx.Select(odd, negated(cosine), sine), tirx.Select(odd, sine, cosine)))
    return tirx.Select(tirx.EQ(x, like(0.0, x)), x, value)


def _flipped(value: Expr, x: Expr, bind: Bind) -> Expr:
    """An odd function's value from that at |x|."""
    sign = tirx.bitwise_and(bits_of(x), literal(_SIGN, "int32", lanes_of(x)))
    return float_of(tirx.bitwise_xor(bits_of(bind(value)), sign))


def _periodic(name: str, near: Callable[[Expr, Bind], Expr]) -> Make:
    """``near``, unless a lane is beyond its bound: then the C library's function in all of them."""

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


FUNCTIONS: MappingProxyType[str, Make] = MappingProxyType(
    {"sin": _periodic("sin", _sine), "cos": _periodic("cos", _cosine), "tan": _periodic("tan", _tangent)}
)
"""On either float type."""
