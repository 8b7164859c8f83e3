"""The parts of floating-point numbers as expressions: constants, bits, signs, powers of two, polynomials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tvm import tirx

from tpopt.backend.tvm.code import Expr, differ, element_of, lanes_of, literal, vector_type
from tpopt.backend.tvm.target import on_gpu
from tpopt.ir import DType

Bind: TypeAlias = Callable[[Expr], Expr]
"""Gives an expression a name, so that using it twice does not compute it twice."""
Make: TypeAlias = Callable[[list[Expr], DType, Bind], Expr]
"""A function's code: arguments of one type and width, that type, and names."""


@dataclass(frozen=True)
class Format:
    """An IEEE 754 binary format: the integer of its size, bits of its fraction, bias of its exponent."""

    integer: str
    fraction: int
    bias: int

    @property
    def shifter(self) -> float:
        """Added to a small whole number n, it leaves n + bias in the lowest bits of the sum."""
        return float((3 << (self.fraction - 1)) + self.bias)

    @property
    def shifter_bits(self) -> int:
        """The shifter's bits, as an integer."""
        return ((self.bias + self.fraction) << self.fraction) + (1 << (self.fraction - 1)) + self.bias


SINGLE: Final = Format("int32", 23, 127)
DOUBLE: Final = Format("int64", 52, 1023)


def format_of(x: Expr) -> Format:
    """The format of a float's type."""
    return SINGLE if element_of(x) == "float32" else DOUBLE


def like(value: Any, sample: Expr) -> Expr:
    """A constant of the type and width of another value."""
    return literal(value, element_of(sample), lanes_of(sample))


def intrinsic(name: str, *args: Expr) -> Expr:
    """An operation on values of one type, which it returns too: an LLVM intrinsic, or CUDA's function for it."""
    if on_gpu():
        return _on_gpu(name, *args)
    dtype = vector_type(element_of(args[0]), lanes_of(args[0]))
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.{name}", *args)


def _on_gpu(name: str, *args: Expr) -> Expr:
    """CUDA C++ Programming Guide, "Mathematical Functions"; its fmaxf prefers numbers to NaN."""
    if name in ("maximum", "minimum"):
        first, second = args
        before = first > second if name == "maximum" else first < second
        return tirx.Select(tirx.Or(before, differ(first, first)), first, second)
    element = element_of(args[0])
    function = {"maxnum": "fmax", "minnum": "fmin"}.get(name, name)
    return tirx.call_pure_extern(element, function if element == "float64" else f"{function}f", *args)


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """``a * b + c``, rounded once."""
    return intrinsic("fma", a, b, c)


def size_of(x: Expr) -> Expr:
    """The magnitude of a float."""
    return intrinsic("fabs", x)


def negated(x: Expr) -> Expr:
    """A float with the other sign; LLVM makes it part of what uses it."""
    return tirx.Mul(x, like(-1.0, x))


def at_most(x: Expr, bound: float) -> Expr:
    """The smaller of a float and a bound; NaN stays NaN."""
    return tirx.Select(x > like(bound, x), like(bound, x), x)


def at_least(x: Expr, bound: float) -> Expr:
    """The larger of a float and a bound; NaN stays NaN."""
    return tirx.Select(x < like(bound, x), like(bound, x), x)


def is_nan(x: Expr) -> Expr:
    """Where a float is no number."""
    return differ(x, x)


def any_lane(mask: Expr) -> Expr:
    """Whether a condition holds in any lane, as a scalar."""
    lanes = lanes_of(mask)
    if lanes == 1:
        return mask
    ones = tirx.Select(mask, literal(1, "int32", lanes), literal(0, "int32", lanes))
    return tirx.NE(tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.or", ones), literal(0, "int32"))


def bits_of(x: Expr) -> Expr:
    """A float's bits, as a signed integer of its size."""
    return tirx.reinterpret(vector_type(format_of(x).integer, lanes_of(x)), x)


def float_of(bits: Expr) -> Expr:
    """The float with given bits."""
    return tirx.reinterpret(vector_type(element_of(bits).replace("int", "float"), lanes_of(bits)), bits)


def copysign(size: Expr, sign: Expr) -> Expr:
    """The magnitude of one float with the sign of another."""
    return intrinsic("copysign", size, sign)


def polynomial(x: Expr, coefficients: Sequence[float], bind: Bind) -> Expr:
    """Horner's scheme, lowest power first in ``coefficients``.

    Its chain is long, but a loop over vectors keeps several of them in flight; two units that multiply are what limits
    it, and shorter chains (Estrin's scheme) need more products: 5 % slower here.
    """
    total = like(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        total = bind(fma(total, x, like(coefficient, x)))
    return total


def nearest(x: Expr, factor: float, bind: Bind) -> tuple[Expr, Expr]:
    """The whole number next to ``x * factor``, and the shifted float that holds it in its lowest bits.

    For products below 2^22 (float64: 2^51). No conversion to integers, which NaN and infinity would not survive.
    """
    shifter = like(format_of(x).shifter, x)
    shifted = bind(fma(x, like(factor, x), shifter))
    return bind(shifted - shifter), shifted


def power(shifted: Expr) -> Expr:
    """2^n for the number that a shifted float holds; the exponent must be a normal one."""
    form = format_of(shifted)
    return float_of(tirx.shift_left(bits_of(shifted), literal(form.fraction, form.integer, lanes_of(shifted))))


def halved_power(shifted: Expr) -> Expr:
    """2^(n - 1), likewise."""
    form = format_of(shifted)
    lanes = lanes_of(shifted)
    less = bits_of(shifted) - literal(1, form.integer, lanes)
    return float_of(tirx.shift_left(less, literal(form.fraction, form.integer, lanes)))
