"""Steps for which a processor has an instruction of its own: AVX-512 on a full register, arithmetic anywhere else.

A value that fills one 512-bit register takes the instruction; vectors of other widths (AVX2, NEON, the ends of short
rows) take the arithmetic, which is exact to the same bounds.
"""

from __future__ import annotations

from typing import Final

from tvm import tirx

from tpopt.backend.tvm.code import Expr, element_of, lanes_of, literal, vector_type
from tpopt.backend.tvm.mathematics.floats import (
    Bind,
    bits_of,
    float_of,
    fma,
    format_of,
    intrinsic,
    is_nan,
    like,
    negated,
)
from tpopt.backend.tvm.target import has_feature

_REGISTER_BITS: Final = 512
_CURRENT_ROUNDING: Final = 4
_MANTISSA_FROM_THREE_QUARTERS: Final = 0b1011
"""Mantissas from 3/4 to 3/2; NaN for negative numbers (Intel's manual, VGETMANTPS)."""


def fills_register(x: Expr) -> bool:
    """Whether a float value is one full register of a target with AVX-512."""
    size = 32 if element_of(x) == "float32" else 64
    return size * lanes_of(x) == _REGISTER_BITS and has_feature("avx512f")


def _avx512(name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(
        vector_type(element_of(args[0]), lanes_of(args[0])),
        f"llvm.x86.avx512.{name}.{'ps' if element_of(args[0]) == 'float32' else 'pd'}.512",
        *args,
    )


def _all_lanes(x: Expr) -> Expr:
    lanes = lanes_of(x)
    return tirx.const(2**lanes - 1, f"uint{lanes}")


def _approximate(name: str, x: Expr) -> Expr:
    """Within 2^-14, relatively."""
    return _avx512(name, x, like(0.0, x), _all_lanes(x))


def scaled(p: Expr, n: Expr, shifted: Expr, bind: Bind) -> Expr:
    """``p * 2^n``, rounded once, overflow and denormal results included; ``shifted`` is n as ``nearest`` gives it."""
    if fills_register(p):
        rounding = literal(_CURRENT_ROUNDING, "int32")
        return _avx512("mask.scalef", p, n, like(0.0, p), _all_lanes(p), rounding)
    form = format_of(p)
    lanes = lanes_of(p)
    whole = bind(bits_of(shifted) - literal(form.shifter_bits, form.integer, lanes))
    half = bind(tirx.shift_right(whole, literal(1, form.integer, lanes)))
    return p * _power(half, p) * _power(whole - half, p)


def _power(n: Expr, sample: Expr) -> Expr:
    form = format_of(sample)
    lanes = lanes_of(sample)
    biased = n + literal(form.bias, form.integer, lanes)
    return float_of(tirx.shift_left(biased, literal(form.fraction, form.integer, lanes)))


def share(a: Expr, b: Expr, bind: Bind) -> Expr:
    """``a / (1 + b)`` for b from 0 to 2^64 and ``a`` either 1 or ``b``, within 0.6 ulp: Newton's step on a reciprocal.

    The rest ``a - share (1 + b)`` is taken without rounding 1 + b, from ``a - share``, which is exact where it counts.
    """
    a, b = bind(a), bind(b)
    inverse = bind(_inverse(bind(like(1.0, b) + b), bind))
    first = bind(a * inverse)
    rest = bind(fma(negated(first), b, bind(a - first)))
    return fma(rest, inverse, first)


def nearly(a: Expr, b: Expr, bind: Bind) -> Expr:
    """``a / b`` for 2^-200 <= |b| <= 2^200, within 2^-27: for float64 values that become float32 ones."""
    if not fills_register(b):
        return tirx.Div(a, b)
    return a * bind(_inverse(bind(b), bind))


def reciprocal(b: Expr, lost: Expr, bind: Bind) -> Expr:
    """``1 / (b + lost)`` for 2^-64 <= |b| <= 2^64, ``lost`` being what rounding took from ``b``: within 0.6 ulp."""
    inverse = bind(_inverse(b, bind))
    rest = bind(fma(negated(b), inverse, like(1.0, b)))
    return fma(inverse, bind(fma(negated(lost), inverse, rest)), inverse)


def _inverse(b: Expr, bind: Bind) -> Expr:
    """Within 2^-14 of ``1 / b`` for float32, 2^-28 for float64."""
    if not fills_register(b):
        return tirx.Div(like(1.0, b), b)
    inverse = bind(_approximate("rcp14", b))
    if element_of(b) == "float32":
        return inverse
    return fma(bind(fma(negated(b), inverse, like(1.0, b))), inverse, inverse)


def reciprocal_root(x: Expr, bind: Bind) -> Expr:
    """``1 / sqrt(x)`` within 1 ulp; infinite for zero, NaN below."""
    x = bind(x)
    if not (fills_register(x) and element_of(x) == "float32"):
        return tirx.Div(like(1.0, x), intrinsic("sqrt", x))
    first = bind(_approximate("rsqrt14", x))
    rest = bind(fma(negated(bind(x * first)), first, like(1.0, x)))
    better = fma(bind(first * rest), like(0.5, x), first)
    return tirx.Select(is_nan(rest), first, better)


def mantissa_and_exponent(x: Expr, bind: Bind) -> tuple[Expr, Expr]:
    """``m`` from 3/4 to 3/2 and ``n`` with x = m 2^n, for any positive x that fills a register.

    Zero has n = -inf, infinity n = inf, both m = 1; negative numbers and NaN have n = NaN.
    """
    rounding = literal(_CURRENT_ROUNDING, "int32")
    interval = literal(_MANTISSA_FROM_THREE_QUARTERS, "int32")
    m = bind(_avx512("mask.getmant", x, interval, like(0.0, x), _all_lanes(x), rounding))

    def exponent(y: Expr) -> Expr:
        return bind(_avx512("mask.getexp", y, like(0.0, y), _all_lanes(y), rounding))

    return m, bind(exponent(x) - exponent(m))


def power_of(n: Expr) -> Expr:
    """2^n for a whole float n, in a register that it fills."""
    return _avx512("mask.scalef", like(1.0, n), n, like(0.0, n), _all_lanes(n), literal(_CURRENT_ROUNDING, "int32"))
