"""exp, log, tanh, erf and what follows from them, for float32 in any number of lanes.

Polynomials are weighted least-squares fits that were reweighted towards the smallest largest error (Lawson 1961), in
the arguments and intervals that are named beside them; errors are for the polynomial alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, differ, lanes_of, literal, vector_type
from tpopt.backend.tvm.mathematics.arithmetic import bits_of, copysign, float_of, fma, intrinsic, like
from tpopt.ir import DType

Bind = Callable[[Expr], Expr]
Make = Callable[[list[Expr], DType, Bind], Expr]

_EXP: Final = (
    0.5,
    0.1666666716337204,
    0.041666269302368164,
    0.008333264850080013,
    0.0013946215622127056,
    0.000199180067,
)
"""(exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2: 4.8e-11."""
_LOG: Final = (
    0.3333331048488617,
    -0.24999986588954926,
    0.20002226531505585,
    -0.16669251024723053,
    0.14218652248382568,
    -0.12384330481290817,
    0.1187300831079483,
    -0.1178993359208107,
    0.06915447115898132,
)
"""(log(1 + t) - t + t^2 / 2) / t^3 for t from sqrt(1/2) - 1 to sqrt(2) - 1: 7.3e-10 over t^2."""
_TANH: Final = (
    -0.3333333134651184,
    0.13333210349082947,
    -0.05394720286130905,
    0.021702967584133148,
    -0.008182673715054989,
    0.0021475369576364756,
)
"""(tanh(x) / x - 1) / x^2 in x^2, for |x| <= 0.625: 1.5e-10 over x^2."""
_ERF_SMALL: Final = (
    0.12837916612625122,
    -0.37612637877464294,
    0.11283782869577408,
    -0.02686544507741928,
    0.005221074912697077,
    -0.00084847112884745,
    0.00011270544928265736,
    -9.680136827228125e-06,
)
"""erf(x) / x - 1 in x^2, for |x| <= 1: 3.2e-11."""
_ERF_LARGE: Final = (
    -0.00017812410078477114,
    1.1295273303985596,
    0.6333328485488892,
    0.10827848315238953,
    -0.025101760402321815,
    0.004153775982558727,
    -0.00042650531395338476,
    1.926271761476528e-05,
    1.6974702532479569e-07,
)
"""-log(erfc(x)) for x from 0.95 to 4: 2.5e-11 over 1 / erfc(x)."""
_LOG2E: Final = 1.4426950408889634
_LN2_HIGH: Final = 0.693145751953125
_LN2_LOW: Final = 1.428606765330187e-06
"""ln(2) in two parts; the first has 15 bits, so that its products with exponents are exact."""


def polynomial(x: Expr, coefficients: Sequence[float], bind: Bind) -> Expr:
    """Horner's scheme, lowest power first in ``coefficients``."""
    total = like(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        total = bind(fma(total, x, like(coefficient, x)))
    return total


def exp(x: Expr, bind: Bind) -> Expr:
    """e^x within 1 ulp, denormal results included; NaN stays NaN."""
    x = bind(x)
    x = bind(tirx.Select(x > like(89.0, x), like(89.0, x), x))
    x = bind(tirx.Select(x < like(-105.0, x), like(-105.0, x), x))
    n = bind(intrinsic("rint", x * like(_LOG2E, x)))
    r = bind(fma(n, like(-_LN2_HIGH, x), x))
    r = bind(fma(n, like(-_LN2_LOW, x), r))
    p = polynomial(r, _EXP, bind)
    p = bind(fma(bind(r * r), p, r) + like(1.0, x))
    return _scaled(p, n, bind)


def _scaled(p: Expr, n: Expr, bind: Bind) -> Expr:
    """``p * 2^n`` in two steps, so that neither power leaves the range. A NaN in ``p`` decides, whatever ``n``."""
    lanes = lanes_of(p)
    n = bind(tirx.Select(tirx.EQ(n, n), n, like(0.0, n)))
    whole = bind(tirx.Cast(vector_type("int32", lanes), n))
    half = bind(tirx.shift_right(whole, literal(1, "int32", lanes)))
    return p * _power(half) * _power(whole - half)


def _power(n: Expr) -> Expr:
    """2^n for n from -126 to 127."""
    lanes = lanes_of(n)
    return float_of(tirx.shift_left(n + literal(127, "int32", lanes), literal(23, "int32", lanes)))


def log(x: Expr, bind: Bind) -> Expr:
    """The natural logarithm within 1.5 ulp; denormals are scaled first."""
    t, n = _reduced(x, bind)
    n = bind(n)
    square = bind(t * t)
    q = bind(polynomial(t, _LOG, bind) * bind(square * t))
    q = bind(fma(n, like(_LN2_LOW, t), q))
    q = bind(fma(square, like(-0.5, t), q))
    return _log_ends(bind(fma(n, like(_LN2_HIGH, t), t + q)), x)


def _reduced(x: Expr, bind: Bind) -> tuple[Expr, Expr]:
    """``t`` and ``n`` with x = (1 + t) 2^n, 1 + t between the root of 1/2 and that of 2."""
    x = bind(x)
    lanes = lanes_of(x)
    tiny = bind(x < like(1.1754943508222875e-38, x))
    grown = bind(tirx.Select(tiny, x * like(8388608.0, x), x))
    bits = bind(bits_of(grown) - literal(0x3F3504F3, "int32", lanes))
    exponent = tirx.shift_right(bits, literal(23, "int32", lanes))
    rest = tirx.bitwise_and(bits, literal(0x7FFFFF, "int32", lanes)) + literal(0x3F3504F3, "int32", lanes)
    n = tirx.Cast(vector_type("float32", lanes), exponent) - tirx.Select(tiny, like(23.0, x), like(0.0, x))
    return bind(float_of(rest) - like(1.0, x)), n


def _log_ends(value: Expr, x: Expr) -> Expr:
    """What a logarithm is at zero, below, at infinity and for NaN."""
    infinity = like(float("inf"), x)
    value = tirx.Select(tirx.EQ(x, infinity), infinity, value)
    value = tirx.Select(x < like(0.0, x), like(float("nan"), x), value)
    value = tirx.Select(tirx.EQ(x, like(0.0, x)), like(float("-inf"), x), value)
    return tirx.Select(differ(x, x), x, value)


def sigmoid(x: Expr, bind: Bind) -> Expr:
    """1 / (1 + e^-x) from e^-|x|, which neither overflows nor cancels."""
    x = bind(x)
    e = bind(exp(like(0.0, x) - intrinsic("fabs", x), bind))
    one = like(1.0, x)
    return tirx.Div(tirx.Select(x < like(0.0, x), e, one), one + e)


def tanh(x: Expr, bind: Bind) -> Expr:
    """Odd polynomial below 0.625, 1 - 2 / (e^2x + 1) above."""
    x = bind(x)
    size = bind(intrinsic("fabs", x))
    square = bind(x * x)
    near = bind(fma(bind(x * square), polynomial(square, _TANH, bind), x))
    one = like(1.0, x)
    far = bind(one - tirx.Div(like(2.0, x), bind(exp(size + size, bind)) + one))
    return tirx.Select(size < like(0.625, x), near, copysign(far, x))


def erf(x: Expr, bind: Bind) -> Expr:
    """Odd polynomial below 1, 1 - e^-q above, where q is a polynomial too."""
    x = bind(x)
    size = bind(intrinsic("fabs", x))
    square = bind(x * x)
    near = bind(fma(x, polynomial(square, _ERF_SMALL, bind), x))
    far_size = bind(tirx.Select(size > like(4.0, x), like(4.0, x), size))
    q = polynomial(far_size, _ERF_LARGE, bind)
    far = bind(like(1.0, x) - exp(like(0.0, x) - q, bind))
    return tirx.Select(size < like(1.0, x), near, copysign(far, x))


EXPONENTIALS: MappingProxyType[str, Make] = MappingProxyType(
    {
        "exp": lambda a, d, bind: exp(a[0], bind),
        "log": lambda a, d, bind: log(a[0], bind),
        "sigmoid": lambda a, d, bind: sigmoid(a[0], bind),
        "tanh": lambda a, d, bind: tanh(a[0], bind),
        "erf": lambda a, d, bind: erf(a[0], bind),
    }
)
