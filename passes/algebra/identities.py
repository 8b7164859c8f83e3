"""Identities of arithmetic that hold bit for bit in IEEE 754: x·1, x + (-0), --x, max(x, x), …"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tpopt.ir import Apply, Cast, Const, DType, Scalar, const
from tpopt.rewrite import Match, Refusal, TermRule

_NEVER_NEGATIVE = ("abs", "exp", "exp2", "sigmoid", "cosh")
_INVOLUTIONS = ("neg", "not", "conj")
_IDEMPOTENT = ("max", "min", "and", "or")


def _is_zero(term: Scalar, sign: float) -> bool:
    return (
        isinstance(term, Const)
        and isinstance(term.value, float)
        and term.value == 0
        and math.copysign(1, term.value) == sign
    )


def never_negative_zero(term: Scalar) -> bool:
    """Whether a float term is proved not to be ``-0.0``."""
    match term:
        case Const(value, _):
            return not _is_zero(term, -1.0) and not isinstance(value, complex)
        case Cast(_, value):
            return value.dtype.is_integer or value.dtype is DType.BOOL
        case Apply(function, _):
            return function in _NEVER_NEGATIVE
    return False


def _apply_rest(function: str, args: tuple[Scalar, ...], dropped: Scalar) -> Scalar:
    """The application without one operand (the operand itself when it is the only one)."""
    rest = [a for a in args if a is not dropped] or [dropped]
    return rest[0] if len(rest) == 1 else Apply(function, tuple(rest))


@dataclass(frozen=True)
class MultiplyByOne(TermRule):
    """Replaces ``x * 1`` with ``x``, for real numbers: a complex product by one may turn infinity into NaN."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("mul", args):
                one = next((a for a in args if isinstance(a, Const) and a.value == 1), None)
                return None if one is None else Match(args=args, one=one)
        return None

    def check(self, match: Match) -> Refusal | None:
        return Refusal("a complex product by 1 is not exact at infinity") if match.one.dtype.is_complex else None

    def rewrite(self, match: Match) -> Scalar:
        return _apply_rest("mul", match.args, match.one)


@dataclass(frozen=True)
class AddZero(TermRule):
    """Replaces ``x + 0`` with ``x`` for integers and for ``-0.0``, and ``x + 0.0`` where ``x`` is not ``-0.0``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("add", args) if not args[0].dtype.is_complex:
                zero = next((a for a in args if isinstance(a, Const) and a.value == 0), None)
                return None if zero is None else Match(args=args, zero=zero)
        return None

    def check(self, match: Match) -> Refusal | None:
        if not _is_zero(match.zero, 1.0):
            return None
        others = [a for a in match.args if a is not match.zero]
        if len(others) == 1 and never_negative_zero(others[0]):
            return None
        return Refusal("x + 0.0 turns -0.0 into 0.0")

    def rewrite(self, match: Match) -> Scalar:
        return _apply_rest("add", match.args, match.zero)


@dataclass(frozen=True)
class SubtractZero(TermRule):
    """Replaces ``x - 0`` with ``x`` for integers, and ``x - 0.0`` with ``x``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("sub", (x, Const(value, dtype) as zero)) if value == 0 and not dtype.is_complex:
                return Match(x=x, zero=zero)
        return None

    def check(self, match: Match) -> Refusal | None:
        return Refusal("x - -0.0 turns -0.0 into 0.0") if _is_zero(match.zero, -1.0) else None

    def rewrite(self, match: Match) -> Scalar:
        x: Scalar = match.x
        return x


@dataclass(frozen=True)
class DivideByPowerOfTwo(TermRule):
    """Replaces ``x / 2^k`` with ``x * 2^-k``, and ``x / 1`` with ``x``: both sides round the same real number."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("div", (x, Const(float(value), dtype))) if math.isfinite(value) and value != 0:
                if abs(math.frexp(value)[0]) == 0.5:
                    return Match(x=x, value=value, dtype=dtype)
        return None

    def check(self, match: Match) -> Refusal | None:
        smallest = -14 if match.dtype is DType.F16 else -126  # exponents of the least normal numbers
        exponent = -int(math.log2(abs(match.value)))
        if not smallest <= exponent <= -smallest:
            return Refusal(f"1 / {match.value} is no normal {match.dtype}")
        return None

    def rewrite(self, match: Match) -> Scalar:
        x: Scalar = match.x
        return x if match.value == 1 else Apply("mul", (x, const(1 / match.value, match.dtype)))


@dataclass(frozen=True)
class CancelInvolution(TermRule):
    """Replaces ``f(f(x))`` with ``x`` for ``neg``, ``not`` and ``conj``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply(outer, (Apply(inner, (x,)),)) if outer == inner and outer in _INVOLUTIONS:
                return Match(x=x)
        return None

    def rewrite(self, match: Match) -> Scalar:
        x: Scalar = match.x
        return x


@dataclass(frozen=True)
class AbsorbNegation(TermRule):
    """Replaces ``a + -b`` with ``a - b``, ``a - -b`` with ``a + b``, ``-a * -b`` with ``a * b``, ``abs(-a)`` alike."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("add", (a, Apply("neg", (b,)))) | Apply("add", (Apply("neg", (b,)), a)):
                return Match(function="sub", args=(a, b))
            case Apply("sub", (a, Apply("neg", (b,)))):
                return Match(function="add", args=(a, b))
            case Apply("mul", (Apply("neg", (a,)), Apply("neg", (b,)))):
                return Match(function="mul", args=(a, b))
            case Apply("abs", (Apply("neg" | "abs", (x,)),)):
                return Match(function="abs", args=(x,))
        return None

    def rewrite(self, match: Match) -> Scalar:
        return Apply(match.function, match.args)


@dataclass(frozen=True)
class DropRepeatedOperand(TermRule):
    """Replaces ``f(x, x)`` with ``x`` for ``max``, ``min``, ``and`` and ``or``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply(function, args) if function in _IDEMPOTENT:
                distinct = tuple(dict.fromkeys(args))
                return Match(function=function, args=distinct) if len(distinct) < len(args) else None
        return None

    def rewrite(self, match: Match) -> Scalar:
        only: Scalar = match.args[0]
        return only if len(match.args) == 1 else Apply(match.function, match.args)


@dataclass(frozen=True)
class PartsOfComplex(TermRule):
    """Replaces ``real(complex(a, b))`` with ``a``, ``imag(complex(a, b))`` with ``b``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("real", (Apply("complex", (part, _)),)) | Apply("imag", (Apply("complex", (_, part)),)):
                return Match(part=part)
        return None

    def rewrite(self, match: Match) -> Scalar:
        part: Scalar = match.part
        return part


@dataclass(frozen=True)
class MultiplyOutPower(TermRule):
    """Replaces ``pow(x, n)`` with ``x``, ``x * x`` or ``x * x * x`` for n = 1, 2, 3: so torch computes them."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("pow", (x, Const(value, _))) if value in (1, 2, 3):
                return Match(x=x, times=int(value.real))
        return None

    def check(self, match: Match) -> Refusal | None:
        return Refusal("a complex power is computed by logarithms") if match.x.dtype.is_complex else None

    def rewrite(self, match: Match) -> Scalar:
        x: Scalar = match.x
        return x if match.times == 1 else Apply("mul", (x,) * match.times)


IDENTITIES: tuple[TermRule, ...] = (
    MultiplyByOne(),
    AddZero(),
    SubtractZero(),
    DivideByPowerOfTwo(),
    CancelInvolution(),
    AbsorbNegation(),
    DropRepeatedOperand(),
    PartsOfComplex(),
    MultiplyOutPower(),
)
