"""Functions of literals: evaluated in the term's own type, where IEEE 754 leaves no choice about the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from tpopt.ir import Apply, Cast, Const, DType, Position, Scalar, const
from tpopt.rewrite import Match, Refusal, TermRule

_NUMPY = MappingProxyType(
    {
        DType.F64: np.float64,
        DType.F32: np.float32,
        DType.F16: np.float16,
        DType.BF16: np.float32,  # bf16 arithmetic is f32 arithmetic, rounded: exact for one operation
        DType.I64: np.int64,
        DType.I32: np.int32,
        DType.I16: np.int16,
        DType.I8: np.int8,
        DType.U8: np.uint8,
        DType.BOOL: np.bool_,
    }
)
# Correctly rounded (or exact) on floats; on integers they wrap as two's complement.
_FLOAT: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
        "sqrt": np.sqrt, "reciprocal": np.reciprocal, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
        "trunc": np.trunc, "max": np.maximum, "min": np.minimum, "eq": np.equal, "ne": np.not_equal, "lt": np.less,
        "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "isnan": np.isnan, "isinf": np.isinf,
        "signbit": np.signbit, "copysign": np.copysign,
    }
)  # fmt: skip
_INTEGER: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs, "max": np.maximum,
        "min": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
        "floordiv": np.floor_divide, "mod": np.mod, "eq": np.equal, "ne": np.not_equal, "lt": np.less,
        "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    }
)  # fmt: skip
_BOOL: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "and": np.logical_and,
        "or": np.logical_or,
        "xor": np.logical_xor,
        "not": np.logical_not,
        "eq": np.equal,
        "ne": np.not_equal,
    }
)


def round_to(value: float, dtype: DType) -> float:
    """The nearest number of a float type (ties to even), as a Python float."""
    if dtype is DType.F64 or not math.isfinite(value):
        return value
    with np.errstate(over="ignore"):
        if dtype is not DType.BF16:
            return float(_NUMPY[dtype](value))
        bits = int(np.float32(value).view(np.uint32))
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000  # bf16 is the upper half of f32
    return float(np.uint32(kept).view(np.float32))


def evaluate(name: str, values: Sequence[Any], dtype: DType) -> Any:
    """The value of a function of literals of one type, or ``None`` where several results are right."""
    table = _FLOAT if dtype.is_float else _BOOL if dtype is DType.BOOL else _INTEGER if dtype.is_integer else {}
    if name not in table or (name in ("floordiv", "mod", "reciprocal") and values[-1] == 0):
        return None
    if name in ("max", "min") and dtype.is_float and all(v == 0 for v in values):
        return None  # the sign of zero is the library's choice
    with np.errstate(all="ignore"):
        arrays: list[Any] = [
            np.array([round_to(v, dtype) if dtype.is_float else v], dtype=_NUMPY[dtype]) for v in values
        ]
        result = arrays[0] if len(arrays) > 1 else table[name](arrays[0])
        for operand in arrays[1:]:
            result = table[name](result, operand)
            if dtype is DType.BF16 and result.dtype == np.float32:
                result = np.array([round_to(float(result[0]), dtype)], dtype=np.float32)
        value = result.item()
    return round_to(value, dtype) if isinstance(value, float) else value


@dataclass(frozen=True)
class EvaluateConstant(TermRule):
    """Replaces a function of literals with its value when IEEE 754 or two's complement determines it."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        if not isinstance(node, Apply) or not all(isinstance(a, Const) for a in node.args) or node.function == "where":
            return None
        values = [a.value for a in node.args if isinstance(a, Const)]
        return Match(function=node.function, values=values, of=node.args[0].dtype, dtype=node.dtype)

    def check(self, match: Match) -> Refusal | None:
        if evaluate(match.function, match.values, match.of) is None:
            return Refusal(f"{match.function} of {match.of} literals is left to run time")
        return None

    def rewrite(self, match: Match) -> Scalar:
        return const(evaluate(match.function, match.values, match.of), match.dtype)


@dataclass(frozen=True)
class EvaluateCast(TermRule):
    """Replaces the cast of a literal with the literal when the conversion is defined and rounds once."""

    heads = (Cast,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Cast(dtype, Const(value, source)) if not source.is_complex:
                return Match(dtype=dtype, value=value, source=source)
        return None

    def check(self, match: Match) -> Refusal | None:
        value, dtype = match.value, match.dtype
        if dtype.is_integer and isinstance(value, float):
            limits = np.iinfo(_NUMPY[dtype])
            if not (math.isfinite(value) and limits.min <= math.trunc(value) <= limits.max):
                return Refusal(f"{value} is no {dtype}")
        if dtype.is_float and dtype is not DType.F64 and float(np.float32(value)) != value and dtype is DType.BF16:
            return Refusal(f"{value} would be rounded twice on its way to bf16")
        return None

    def rewrite(self, match: Match) -> Scalar:
        value, dtype = match.value, match.dtype
        if match.source.is_float:
            value = round_to(value, match.source)
        if dtype.is_float or dtype.is_complex:
            return const(round_to(float(value), dtype) if dtype.is_float else round_to(float(value), dtype.real), dtype)
        if dtype is DType.BOOL:
            return const(value != 0, dtype)
        return const(int(np.array([math.trunc(value)]).astype(_NUMPY[dtype])[0]), dtype)


@dataclass(frozen=True)
class EvaluatePosition(TermRule):
    """Replaces the position of a known index with the integer."""

    heads = (Position,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Position(value) if value.constant is not None:
                return Match(value=value.constant)
        return None

    def rewrite(self, match: Match) -> Scalar:
        return Const(match.value, DType.I64)


CONSTANTS: tuple[TermRule, ...] = (EvaluateConstant(), EvaluateCast(), EvaluatePosition())
