"""Functions of float32 by way of float64.

Where float32 would need two numbers for one (differences near 1, powers), float64 holds all bits: the error is that of
the last rounding, a little above 1/2 ulp. A vector becomes two of half as many lanes each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, halves, lanes_of, literal, shuffle, vector_type
from tpopt.backend.tvm.mathematics.exponentials import exp
from tpopt.backend.tvm.mathematics.floats import (
    Bind,
    Make,
    bits_of,
    copysign,
    fma,
    intrinsic,
    is_nan,
    like,
    negated,
    polynomial,
    size_of,
)
from tpopt.backend.tvm.mathematics.instructions import nearly
from tpopt.backend.tvm.mathematics.logarithms import log
from tpopt.ir import DType

_WIDEST: Final = 8
"""Lanes of one step: a 512-bit register of float64."""
_LOG: Final = (
    0.33333333356272704,
    -0.250000000140746,
    0.1999999562689523,
    -0.16666658691427227,
    0.14285975343871132,
    -0.1250077843081175,
    0.11104901360082624,
    -0.09972443189369298,
    0.09133832380624415,
    -0.0872228718547323,
    0.08105194734559477,
    -0.05704555304230653,
    0.01986336426550174,
)
"""(log(1 + t) - t + t^2 / 2) / t^3 for t from -1/4 to 1/2, in float64: 4.9e-13 (Remez)."""
_EXP: Final = (
    0.500000001349006,
    0.1666666675658805,
    0.04166646488663782,
    0.008333286140472983,
    0.0013933649974187034,
    0.00019907463536974885,
)
"""(e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, in float64: 1.6e-10 of e^r (Remez)."""
_CENTER: Final = 3.0
_ERFCX: Final = (
    1.074006907046928,
    -0.8833944902888958,
    0.5902283543196364,
    -0.31046591685133057,
    0.1195284584422237,
    -0.026840551269338438,
    -0.0012245241941282222,
    0.0030824930115990147,
    -0.00048461753437232846,
    -0.00032695902682912235,
)
"""(x + 3) e^(x^2) erfc(x) in (x - 3) / (x + 3), for x from 0 to 10.6: 2.4e-9 (Remez).

The argument is that of Shepherd and Laframboise (1981)."""


def widely(make: Callable[..., Expr], args: Sequence[Expr], bind: Bind) -> Expr:
    """A function of float64 vectors on float32 ones; the result is rounded to float32 once."""
    args = [bind(a) for a in args]
    lanes = lanes_of(args[0])
    if lanes > _WIDEST:
        parts = [widely(make, half, bind) for half in zip(*(halves(a) for a in args), strict=True)]
        return shuffle([bind(p) for p in parts], list(range(lanes)))
    wide = [bind(tirx.Cast(vector_type("float64", lanes), a)) for a in args]
    return tirx.Cast(vector_type("float32", lanes), make(*wide))


def _through(compute: Callable[..., Expr]) -> Make:
    return lambda a, dtype, bind: widely(lambda *wide: compute(*wide, bind), a, bind)


def _logarithm(x: Expr, bind: Bind) -> Expr:
    return bind(log(x, bind, _LOG))


def _asinh(x: Expr, bind: Bind) -> Expr:
    size = bind(size_of(x))
    square = bind(x * x)
    far = _logarithm(size + intrinsic("sqrt", bind(square + like(1.0, x))), bind)
    near = bind(fma(bind(size * square), like(-1 / 6, x), size))
    return copysign(tirx.Select(size < like(2.0**-10, x), near, far), x)


def _acosh(x: Expr, bind: Bind) -> Expr:
    root = intrinsic("sqrt", bind(fma(x, x, like(-1.0, x))))
    value = _logarithm(x + root, bind)
    return tirx.Select(x < like(1.0, x), like(float("nan"), x), value)


def _atanh(x: Expr, bind: Bind) -> Expr:
    size = bind(size_of(x))
    one = like(1.0, x)
    far = _logarithm(tirx.Div(one + size, one - size), bind) * like(0.5, x)
    near = bind(fma(bind(size * bind(x * x)), like(1 / 3, x), size))
    return copysign(tirx.Select(size < like(2.0**-10, x), near, far), x)


def _erfc(x: Expr, bind: Bind) -> Expr:
    size = bind(size_of(x))
    inverse = bind(nearly(like(1.0, x), size + like(_CENTER, x), bind))
    place = bind((size - like(_CENTER, x)) * inverse)
    decay = bind(exp(negated(bind(x * x)), bind, grows=False, known=_EXP))
    upper = bind(bind(polynomial(place, _ERFCX, bind) * inverse) * decay)
    upper = bind(tirx.Select(size > like(10.6, x), like(0.0, x), upper))
    return tirx.Select(x < like(0.0, x), like(2.0, x) - upper, upper)


def _hypot(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    x, y = bind(a[0]), bind(a[1])
    value = bind(widely(lambda u, v: intrinsic("sqrt", bind(fma(u, u, bind(v * v)))), [x, y], bind))
    infinity = like(float("inf"), x)
    either = tirx.Or(tirx.EQ(size_of(x), infinity), tirx.EQ(size_of(y), infinity))
    return tirx.Select(either, infinity, value)


def _pow(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    """2^(y log2 |x|); signs and ends as C99 has them (annex F.9.4.4)."""
    x, y = bind(a[0]), bind(a[1])
    one, zero = like(1.0, x), like(0.0, x)
    size = bind(size_of(x))
    base = bind(tirx.Select(tirx.EQ(y, zero), one, size))
    exponent = bind(tirx.Select(tirx.EQ(size, one), tirx.Select(is_nan(y), y, one), y))
    value = bind(widely(lambda u, v: exp(bind(v * _logarithm(u, bind)), bind, known=_EXP), [base, exponent], bind))
    whole = bind(tirx.EQ(intrinsic("trunc", y), y))
    half = bind(y * like(0.5, x))
    odd = bind(tirx.And(whole, tirx.Not(tirx.EQ(intrinsic("trunc", half), half))))
    negative = bind(bits_of(x) < literal(0, "int32", lanes_of(x)))
    value = bind(tirx.Select(tirx.And(negative, odd), negated(value), value))
    root = tirx.And(tirx.And(x < zero, size < like(float("inf"), x)), tirx.Not(whole))
    value = bind(tirx.Select(tirx.And(root, tirx.EQ(y, y)), like(float("nan"), x), value))
    return tirx.Select(tirx.Or(tirx.EQ(y, zero), tirx.EQ(x, one)), one, value)


SINGLES: MappingProxyType[str, Make] = MappingProxyType(
    {
        "asinh": _through(_asinh),
        "acosh": _through(_acosh),
        "atanh": _through(_atanh),
        "erfc": _through(_erfc),
        "hypot": _hypot,
        "pow": _pow,
    }
)
"""On float32."""
