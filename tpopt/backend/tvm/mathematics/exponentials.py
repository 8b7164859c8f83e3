"""exp and its kin on vectors of either float type.

Every one of them reduces its argument to r = x - n ln 2 with |r| <= ln(2) / 2 (Cody and Waite, 1980) and takes e^r - 1
from a polynomial. Polynomials are minimax fits by Remez' exchange or Lawson's reweighting (1961), on the intervals that
are named beside them; errors are for the polynomial alone, relative to the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, element_of
from tpopt.backend.tvm.mathematics.floats import (
    Bind,
    Make,
    at_least,
    at_most,
    copysign,
    fma,
    halved_power,
    intrinsic,
    like,
    nearest,
    negated,
    polynomial,
    power,
    size_of,
)
from tpopt.backend.tvm.mathematics.instructions import scaled, share


@dataclass(frozen=True)
class _Constants:
    """``fraction`` is (e^r - 1 - r) / r^2; ``rough`` the same where it is added to 1 + r, ``brief`` with a term less.

    ``ln2`` is in parts, the first of two with few bits. Beyond ``overflow`` and ``underflow``, e^x is by far infinite
    or zero; beyond ``unit``, e^-x is nothing beside 1.
    """

    fraction: tuple[float, ...]
    rough: tuple[float, ...]
    brief: tuple[float, ...]
    ln2: tuple[float, float]
    ln2_level: tuple[float, ...]
    overflow: float
    underflow: float
    unit: float


_SINGLE: Final = _Constants(
    fraction=(
        0.5,
        0.1666666716337204,
        0.041666269302368164,
        0.008333264850080013,
        0.0013946215622127056,
        0.000199180067,
    ),  # 4.8e-11
    rough=(
        0.4999999403953552,
        0.16666516661643982,
        0.04166810214519501,
        0.008369192481040955,
        0.0013838893501088023,
    ),  # 3.2e-9
    brief=(
        0.5,
        0.1666654348373413,
        0.04166644811630249,
        0.008366541936993599,
        0.0013936543837189674,
    ),  # 1.4e-8
    ln2=(0.693145751953125, 1.428606765330187e-06),
    ln2_level=(0.6931471805599453,),
    overflow=89.0,
    underflow=-105.0,
    unit=20.0,
)
_FRACTION: Final = (
    0.5,
    0.1666666666666667,
    0.041666666666666685,
    0.008333333333326143,
    0.0013888888888874636,
    0.0001984126987479666,
    2.480158734679557e-05,
    2.755725543030692e-06,
    2.75572534202701e-07,
    2.510520460771982e-08,
    2.0921422770849646e-09,
)
"""In float64: 9e-19."""
_DOUBLE: Final = _Constants(
    fraction=_FRACTION,
    rough=(
        0.5000000000000001,
        0.16666666666666674,
        0.04166666666662401,
        0.008333333333322215,
        0.0013888888917243515,
        0.00019841269886563802,
        2.480152126959192e-05,
        2.755724236744966e-06,
        2.7620095638785546e-07,
        2.5110038296727242e-08,
    ),  # 1.3e-17
    brief=_FRACTION,
    ln2=(0.6931471803691238, 1.9082149292705877e-10),
    ln2_level=(0.6931471803691238, 1.9082149292705877e-10),
    overflow=710.0,
    underflow=-746.0,
    unit=40.0,
)
_LOG2E: Final = 1.4426950408889634
_EXP2: Final = (
    0.6931471824645996,
    0.24022650718688965,
    0.055503591895103455,
    0.009618071839213371,
    0.001339115435257554,
    0.00015458842972293496,
)
"""(2^r - 1) / r for |r| <= 1/2: 3.1e-9."""
_SINH: Final = (0.1666666716337204, 0.008333273231983185, 0.00019861673354171216, 2.5581584850442596e-06)
"""(sinh(r) / r - 1) / r^2 in r^2, for 0 <= r <= ln(2): 1.2e-10."""
_COSH: Final = (0.5, 0.041666675359010696, 0.0013887981185689569, 2.5085708330152556e-05)
"""(cosh(r) - 1) / r^2 in r^2, for 0 <= r <= ln(2): 4e-11."""


def _constants(x: Expr) -> _Constants:
    return _SINGLE if element_of(x) == "float32" else _DOUBLE


def _fraction(x: Expr, bind: Bind, coefficients: tuple[float, ...] | None = None) -> tuple[Expr, Expr, Expr]:
    """e^r - 1, with n and the shifted float that holds it."""
    known = _constants(x)
    n, shifted = nearest(x, _LOG2E, bind)
    r = bind(fma(n, like(-known.ln2[0], x), x))
    r = bind(fma(n, like(-known.ln2[1], x), r))
    return bind(fma(bind(r * r), polynomial(r, coefficients or known.fraction, bind), r)), n, shifted


def exp(x: Expr, bind: Bind, *, grows: bool = True, known: tuple[float, ...] | None = None) -> Expr:
    """e^x within 1 ulp, denormal results included; for x <= 0 only, unless it ``grows``.

    ``known`` is another polynomial than the type's own.
    """
    x = bind(x)
    if grows:
        x = bind(at_most(x, _constants(x).overflow))
    x = bind(at_least(x, _constants(x).underflow))
    p, n, shifted = _fraction(x, bind, known or _constants(x).rough)
    return scaled(bind(p + like(1.0, x)), n, shifted, bind)


def exp2(x: Expr, bind: Bind) -> Expr:
    """2^x: n and r are exact."""
    x = bind(at_least(bind(at_most(bind(x), 129.0)), -151.0))
    n, shifted = nearest(x, 1.0, bind)
    r = bind(x - n)
    return scaled(bind(fma(r, polynomial(r, _EXP2, bind), like(1.0, x))), n, shifted, bind)


def expm1(x: Expr, bind: Bind) -> Expr:
    """e^x - 1 = 2 (2^(n-1) (e^r - 1) + (2^(n-1) - 1/2)), whose terms stay finite where the result does."""
    given = bind(x)
    known = _constants(given)
    x = bind(at_least(bind(at_most(given, known.overflow)), -2 * known.unit))
    p, _, shifted = _fraction(x, bind)
    half = bind(halved_power(shifted))
    total = bind(fma(half, p, half - like(0.5, x)))
    return copysign(total + total, given)


def level(x: Expr, factor: float, bind: Bind) -> Expr:
    """(e^kx - 1) / k for a ``factor`` k of 1 or 2 and kx from -40 to 40, without regard to the sign of zero.

    For functions that level off: ln(2) in one part is exact enough for float32 then.
    """
    known = _constants(x)
    n, shifted = nearest(x, factor * _LOG2E, bind)
    r = x
    for part in known.ln2_level:
        r = bind(fma(n, like(-part / factor, x), r))
    coefficients = [c * factor ** (k + 1) for k, c in enumerate(known.brief)]
    p = bind(fma(bind(r * r), polynomial(r, coefficients, bind), r))
    scale = bind(power(shifted))
    return bind(fma(scale, p, bind(fma(scale, like(1 / factor, x), like(-1 / factor, x)))))


def sigmoid(x: Expr, bind: Bind) -> Expr:
    """1 / (1 + e^-x) from e^-|x|, which neither overflows nor cancels."""
    x = bind(x)
    e = bind(exp(negated(size_of(x)), bind, grows=False))
    return share(tirx.Select(x < like(0.0, x), e, like(1.0, x)), e, bind)


def tanh(x: Expr, bind: Bind) -> Expr:
    """h / (1 + h) with h = (e^2|x| - 1) / 2, which is exact enough at both ends."""
    x = bind(x)
    h = level(bind(at_most(size_of(x), _constants(x).unit / 2)), 2.0, bind)
    return copysign(share(h, h, bind), x)


def _hyperbolic(x: Expr, bind: Bind, *, odd: bool) -> Expr:
    """sinh or cosh by the addition theorem, |x| being r + n ln 2.

    For sinh r >= 0, or its terms would cancel. ``rest`` is cosh(r) - 1; of cosh(r) itself rounding would lose more.
    """
    given = bind(x)
    x = bind(at_most(size_of(given), 91.0))
    n = bind(intrinsic("floor" if odd else "rint", x * like(_LOG2E, x)))
    r = bind(fma(n, like(-_SINGLE.ln2[0], x), x))
    r = bind(fma(n, like(-_SINGLE.ln2[1], x), r))
    square = bind(r * r)
    sinh = bind(fma(bind(r * square), polynomial(square, _SINH, bind), r))
    rest = bind(square * polynomial(square, _COSH, bind))
    capped = bind(at_most(n, 120.0))
    _, shifted = nearest(capped, 1.0, bind)
    _, inverse = nearest(capped, -1.0, bind)
    _, left = nearest(n - capped, 1.0, bind)
    grown, shrunk = bind(halved_power(shifted)), bind(halved_power(inverse))
    sums, differences = bind(grown + shrunk), bind(grown - shrunk)
    if odd:
        total = fma(differences, rest, bind(sums * sinh)) + differences
        return copysign(bind(total) * power(left), given)
    return bind(fma(sums, rest, bind(differences * sinh)) + sums) * power(left)


FUNCTIONS: MappingProxyType[str, Make] = MappingProxyType(
    {
        "exp": lambda a, d, bind: exp(a[0], bind),
        "expm1": lambda a, d, bind: expm1(a[0], bind),
        "sigmoid": lambda a, d, bind: sigmoid(a[0], bind),
        "tanh": lambda a, d, bind: tanh(a[0], bind),
    }
)
"""On either float type."""

SINGLES: MappingProxyType[str, Make] = MappingProxyType(
    {
        "exp2": lambda a, d, bind: exp2(a[0], bind),
        "sinh": lambda a, d, bind: _hyperbolic(a[0], bind, odd=True),
        "cosh": lambda a, d, bind: _hyperbolic(a[0], bind, odd=False),
    }
)
"""On float32."""
