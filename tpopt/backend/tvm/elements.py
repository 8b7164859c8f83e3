"""Elements in memory and as values: half types are computed in float32, bool is a byte, complex numbers are pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tvm import tirx

from tpopt.backend.tvm.code import Code, Expr, differ, lanes_of, literal, splat, vector_type
from tpopt.ir.dtypes import DType

Value: TypeAlias = Any
"""A tirx expression; for a complex type a pair of them, real and imaginary part."""

STORED: Final = {
    DType.F64: "float64",
    DType.F32: "float32",
    DType.F16: "float16",
    DType.BF16: "uint16",
    DType.I64: "int64",
    DType.I32: "int32",
    DType.I16: "int16",
    DType.I8: "int8",
    DType.U8: "uint8",
    DType.BOOL: "int8",
    DType.C64: "float32",
    DType.C128: "float64",
}
"""The type of an element in memory. Complex numbers lie there as two elements, bf16 as its bits."""

COMPUTED: Final = {**STORED, DType.F16: "float32", DType.BF16: "float32", DType.BOOL: "bool"}
"""The type of a value (of each part of a complex one)."""

PASSED: Final = {**STORED, DType.BOOL: "bool"}
"""The type under which a tensor is handed over: bf16 as its bits, which TVM takes without a change of its own."""


def computed(dtype: DType) -> DType:
    """The type in which functions of a type are computed."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


def from_memory(value: Expr, dtype: DType) -> Expr:
    """What was loaded, as a value."""
    lanes = lanes_of(value)
    if dtype is DType.F16:
        return tirx.Cast(vector_type("float32", lanes), value)
    if dtype is DType.BF16:
        wide = tirx.Cast(vector_type("uint32", lanes), value)
        return tirx.reinterpret(vector_type("float32", lanes), tirx.shift_left(wide, literal(16, "uint32", lanes)))
    if dtype is DType.BOOL:
        return tirx.NE(value, literal(0, "int8", lanes))
    return value


def to_memory(value: Expr, dtype: DType, bind: Callable[[Expr], Expr]) -> Expr:
    """A value as it is stored."""
    lanes = lanes_of(value)
    if dtype is DType.F16:
        return tirx.Cast(vector_type("float16", lanes), value)
    if dtype is DType.BF16:
        return tirx.Cast(vector_type("uint16", lanes), _bf16_bits(value, bind))
    if dtype is DType.BOOL:
        return tirx.Select(value, literal(1, "int8", lanes), literal(0, "int8", lanes))
    return value


def rounded(value: Expr, dtype: DType, bind: Callable[[Expr], Expr]) -> Expr:
    """A float32 value rounded to what a half type can hold; any other type's value as it is."""
    lanes = lanes_of(value)
    if dtype is DType.F16:
        return tirx.Cast(vector_type("float32", lanes), tirx.Cast(vector_type("float16", lanes), value))
    if dtype is DType.BF16:
        bits = tirx.shift_left(_bf16_bits(value, bind), literal(16, "uint32", lanes))
        return tirx.reinterpret(vector_type("float32", lanes), bits)
    return value


def _bf16_bits(value: Expr, bind: Callable[[Expr], Expr]) -> Expr:
    """The upper half of a float32, rounded to nearest, ties to even; NaN stays NaN."""
    lanes = lanes_of(value)
    value = bind(value)
    bits = bind(tirx.reinterpret(vector_type("uint32", lanes), value))
    upper = tirx.shift_right(bits, literal(16, "uint32", lanes))
    even = tirx.bitwise_and(upper, literal(1, "uint32", lanes))
    near = tirx.shift_right(bits + literal(0x7FFF, "uint32", lanes) + even, literal(16, "uint32", lanes))
    nan = literal(0x7FC0, "uint32", lanes)
    return bind(tirx.Select(differ(value, value), nan, near))


def convert(value: Value, source: DType, target: DType, bind: Callable[[Expr], Expr]) -> Value:
    """A value of one type as another: floats truncate to integers, anything but zero is true."""
    if source.is_complex:
        real, imaginary = value
        if target.is_complex:
            return convert(real, source.real, target.real, bind), convert(imaginary, source.real, target.real, bind)
        if target is DType.BOOL:
            return tirx.Or(convert(real, source.real, target, bind), convert(imaginary, source.real, target, bind))
        return convert(real, source.real, target, bind)
    if target.is_complex:
        part = convert(value, source, target.real, bind)
        return part, literal(0.0, COMPUTED[target], lanes_of(part))
    lanes = lanes_of(value)
    if target is DType.BOOL:
        return value if source is DType.BOOL else differ(value, literal(0, COMPUTED[source], lanes))
    kind = COMPUTED[target]
    if source is DType.BOOL:
        return tirx.Select(value, literal(1, kind, lanes), literal(0, kind, lanes))
    if kind == COMPUTED[source]:
        return rounded(value, target, bind)
    if source.is_float and target in (DType.I8, DType.I16, DType.U8):  # as C does it: through int32
        value = tirx.Cast(vector_type("int32", lanes), value)
    return rounded(tirx.Cast(vector_type(kind, lanes), value), target, bind)


def constant(value: Any, dtype: DType) -> Value:
    """A literal of a type."""
    if dtype.is_complex:
        part = COMPUTED[dtype]
        return literal(value.real, part), literal(value.imag, part)
    if dtype is DType.BOOL:
        return tirx.const(bool(value), "bool")
    if dtype is DType.F16 or dtype is DType.BF16:
        return literal(float(value), "float32")
    return literal(value, COMPUTED[dtype])


def choose(condition: Expr, yes: Value, no: Value) -> Value:
    """``yes`` in the lanes where a condition holds, else ``no``."""
    if isinstance(yes, tuple):
        return tuple(choose(condition, y, n) for y, n in zip(yes, no, strict=True))
    lanes = max(lanes_of(condition), lanes_of(yes), lanes_of(no))
    return tirx.Select(splat(condition, lanes), splat(yes, lanes), splat(no, lanes))


def width_of(value: Value) -> int:
    """Lanes of a value."""
    return lanes_of(value[0]) if isinstance(value, tuple) else lanes_of(value)


def widened(value: Value, lanes: int) -> Value:
    """A value in all lanes."""
    return tuple(splat(v, lanes) for v in value) if isinstance(value, tuple) else splat(value, lanes)


def named(code: Code, value: Value) -> Value:
    """A value under a name, to be used more than once."""
    return tuple(code.bind(v) for v in value) if isinstance(value, tuple) else code.bind(value)
