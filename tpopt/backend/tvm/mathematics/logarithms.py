"""Logarithms on vectors of either float type.

x = (1 + t) 2^n with 1 + t from 3/4 to 3/2, and a polynomial in t: zero, and all that is near 1, lie in the middle of an
interval. Polynomials are minimax fits by Remez' exchange or Lawson's reweighting (1961).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, differ, element_of, lanes_of, literal, vector_type
from tpopt.backend.tvm.mathematics.floats import (
    Bind,
    Make,
    bits_of,
    copysign,
    float_of,
    fma,
    format_of,
    is_nan,
    like,
    polynomial,
)
from tpopt.backend.tvm.mathematics.instructions import fills_register, mantissa_and_exponent, power_of

_SINGLE: Final = (
    0.3333345055580139,
    -0.25000104308128357,
    0.19990800321102142,
    -0.16646863520145416,
    0.14478392899036407,
    -0.13166286051273346,
    0.1047494113445282,
    -0.045158062130212784,
)
"""(log(1 + t) - t + t^2 / 2) / t^3 for t from -1/4 to 1/2: 5e-9 of the logarithm."""
_DOUBLE: Final = (
    0.3333333333333327,
    -0.2500000000000146,
    0.2000000000003376,
    -0.16666666666299584,
    0.14285714279916714,
    -0.1250000002905138,
    0.1111111158305607,
    -0.09999999265122037,
    0.09090888525227611,
    -0.08333318737159874,
    0.07692791944823438,
    -0.0714406396651567,
    0.06661325572254366,
    -0.062243185792711084,
    0.058860604686533306,
    -0.057707431233351925,
    0.05674767593339266,
    -0.04775888787221001,
    0.027187729053844898,
    -0.007321979681021406,
)
"""The same: 4.3e-18."""
_LN2: Final = {
    "float32": (0.693145751953125, 1.428606765330187e-06),
    "float64": (0.6931471803691238, 1.9082149292705877e-10),
}
"""ln(2) in two parts; products of the first with exponents are exact."""


def coefficients(x: Expr) -> tuple[float, ...]:
    """The polynomial for a value's type."""
    return _SINGLE if element_of(x) == "float32" else _DOUBLE


def _split(x: Expr, bind: Bind) -> tuple[Expr, Expr]:
    """``t`` and ``n``; of zero, infinity, NaN and what is negative only where registers are full (see _ends)."""
    if fills_register(x):
        m, n = mantissa_and_exponent(x, bind)
        return bind(m - like(1.0, x)), n
    form = format_of(x)
    tiny = bind(x < like(2.0 ** (1 - form.bias), x))
    grown = bind(tirx.Select(tiny, x * like(2.0**form.fraction, x), x))
    m, n = _by_bits(grown, bind)
    return bind(m - like(1.0, x)), bind(n - tirx.Select(tiny, like(float(form.fraction), x), like(0.0, x)))


def _by_bits(x: Expr, bind: Bind) -> tuple[Expr, Expr]:
    """``m`` and ``n`` of a normal number."""
    form = format_of(x)
    lanes = lanes_of(x)
    low = (form.bias << form.fraction) - (1 << (form.fraction - 1))
    bits = bind(bits_of(x) - literal(low, form.integer, lanes))
    exponent = tirx.shift_right(bits, literal(form.fraction, form.integer, lanes))
    rest = tirx.bitwise_and(bits, literal((1 << form.fraction) - 1, form.integer, lanes))
    m = bind(float_of(rest + literal(low, form.integer, lanes)))
    return m, bind(tirx.Cast(vector_type(element_of(x), lanes), exponent))


def _ends(value: Expr, x: Expr) -> Expr:
    """What a logarithm is at zero, below, at infinity and for NaN, where no instruction sees to it."""
    if fills_register(x):
        return value
    infinity = like(float("inf"), x)
    value = tirx.Select(tirx.EQ(x, infinity), infinity, value)
    value = tirx.Select(x < like(0.0, x), like(float("nan"), x), value)
    value = tirx.Select(tirx.EQ(x, like(0.0, x)), like(float("-inf"), x), value)
    return tirx.Select(differ(x, x), x, value)


def _rest(t: Expr, bind: Bind, known: tuple[float, ...] | None = None) -> Expr:
    """log(1 + t) - t."""
    tail = bind(fma(polynomial(t, known or coefficients(t), bind), t, like(-0.5, t)))
    return bind(bind(t * t) * tail)


def _sum(t: Expr, n: Expr, bind: Bind, known: tuple[float, ...] | None = None) -> Expr:
    high, low = _LN2[element_of(t)]
    rest = bind(fma(n, like(low, t), _rest(t, bind, known)))
    return bind(fma(n, like(high, t), t + rest))


def log(x: Expr, bind: Bind, known: tuple[float, ...] | None = None) -> Expr:
    """The natural logarithm within 1 ulp; ``known`` is another polynomial than the type's own."""
    x = bind(x)
    t, n = _split(x, bind)
    return _ends(_sum(t, n, bind, known), x)


def log1p(x: Expr, bind: Bind) -> Expr:
    """log(1 + x): what rounding 1 + x lost goes into t."""
    x = bind(x)
    one = like(1.0, x)
    u = bind(one + x)
    if fills_register(x):
        _, n = mantissa_and_exponent(u, bind)
        scale = bind(power_of(like(0.0, x) - n))
        value = _sum(bind(fma(x, scale, scale - one)), n, bind)
        return copysign(tirx.Select(is_nan(value), n, value), x)
    m, n = _by_bits(u, bind)
    form = format_of(x)
    lanes = lanes_of(x)
    near = tirx.Cast(vector_type(form.integer, lanes), tirx.Select(n > like(60.0, x), like(60.0, x), n))
    bits = tirx.shift_left(literal(form.bias, form.integer, lanes) - near, literal(form.fraction, form.integer, lanes))
    lost = bind(x - bind(u - one))
    return copysign(_ends(_sum(bind(fma(lost, float_of(bits), m - one)), n, bind), u), x)


def _to_base(x: Expr, bind: Bind, base: tuple[float, float], unit: tuple[float, float]) -> Expr:
    """log to another base: ``base`` is 1 / log(base) in two parts, ``unit`` likewise what 2 has in that base."""
    x = bind(x)
    t, n = _split(x, bind)
    rest = _rest(t, bind)
    small = bind(fma(rest, like(base[0], x), t * like(base[1], x)))
    if unit[1]:
        small = bind(fma(n, like(unit[1], x), small))
    return _ends(bind(fma(n, like(unit[0], x), bind(fma(t, like(base[0], x), small)))), x)


_LOG2: Final = ((1.4426950216293335, 1.9259629911266175e-08), (1.0, 0.0))
_LOG10: Final = ((0.4342944920063019, -1.0103050052231683e-08), (0.301025390625, 4.605038981195214e-06))

FUNCTIONS: MappingProxyType[str, Make] = MappingProxyType(
    {"log": lambda a, d, bind: log(a[0], bind), "log1p": lambda a, d, bind: log1p(a[0], bind)}
)
"""On either float type."""

SINGLES: MappingProxyType[str, Make] = MappingProxyType(
    {
        "log2": lambda a, d, bind: _to_base(a[0], bind, *_LOG2),
        "log10": lambda a, d, bind: _to_base(a[0], bind, *_LOG10),
    }
)
"""On float32."""
