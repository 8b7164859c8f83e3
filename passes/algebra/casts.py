"""Casts: ``cast(b, cast(a, x)) → cast(b, x)`` when ``a`` holds every value of ``x``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from tpopt.ir import Cast, DType, Scalar, cast
from tpopt.rewrite import Match, Refusal, TermRule

# (bits of the significand, largest power of two) of real floats: IEEE 754 binary16/32/64 and bfloat16.
_FLOATS = MappingProxyType(
    {DType.F64: (53, 1023), DType.F32: (24, 127), DType.F16: (11, 15), DType.BF16: (8, 127)},
)
# (bits of the magnitude, signed)
_INTEGERS = MappingProxyType(
    {DType.I64: (63, True), DType.I32: (31, True), DType.I16: (15, True), DType.I8: (7, True), DType.U8: (8, False)},
)


def lossless(source: DType, target: DType) -> bool:
    """Whether every value of ``source`` is exactly one of ``target``."""
    if source is target or source is DType.BOOL:
        return True
    if target is DType.BOOL or (source.is_complex and not target.is_complex):
        return False
    a, b = source.real, target.real
    if b.is_float and a.is_float:
        return _FLOATS[a][0] <= _FLOATS[b][0] and _FLOATS[a][1] <= _FLOATS[b][1]
    if b.is_float:
        return _INTEGERS[a][0] <= min(_FLOATS[b][0], _FLOATS[b][1])
    if a.is_float:
        return False
    (bits, signed), (room, negative) = _INTEGERS[a], _INTEGERS[b]
    return bits <= room and (negative or not signed)


@dataclass(frozen=True)
class DropCastToOwnType(TermRule):
    """Replaces ``cast(d, x)`` with ``x`` when ``x`` is of type ``d``."""

    heads = (Cast,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Cast(dtype, value) if value.dtype is dtype:
                return Match(value=value)
        return None

    def rewrite(self, match: Match) -> Scalar:
        value: Scalar = match.value
        return value


@dataclass(frozen=True)
class MergeCasts(TermRule):
    """Replaces ``cast(b, cast(a, x))`` with ``cast(b, x)`` when ``a`` holds every value of ``x``."""

    heads = (Cast,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Cast(outer, Cast(inner, value)):
                return Match(outer=outer, inner=inner, value=value)
        return None

    def check(self, match: Match) -> Refusal | None:
        source, inner, outer = match.value.dtype, match.inner, match.outer
        if not lossless(source, inner):
            return Refusal(f"{inner} does not hold every {source}")
        if source.is_integer and not inner.is_integer and outer.is_integer and not lossless(source, outer):
            return Refusal(f"{source} to {outer} wraps, {inner} to {outer} does not")
        return None

    def rewrite(self, match: Match) -> Scalar:
        return cast(match.value, match.outer)


CASTS: tuple[TermRule, ...] = (DropCastToOwnType(), MergeCasts())
