"""The scalar functions of the IR as tirx expressions, on vectors wherever arithmetic alone computes them."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from tpopt.backend.tvm.code import Expr
from tpopt.backend.tvm.mathematics import (
    arcs,
    arithmetic,
    circular,
    error_functions,
    exponentials,
    library,
    logarithms,
    wide,
)
from tpopt.backend.tvm.mathematics.floats import Bind, Make
from tpopt.backend.tvm.target import on_gpu
from tpopt.errors import KernelUnsupported
from tpopt.ir import DType

_COMMON = (arithmetic.SHARED, arithmetic.FLOATS, exponentials.FUNCTIONS, logarithms.FUNCTIONS, circular.FUNCTIONS)
_VECTOR: MappingProxyType[DType, tuple[MappingProxyType[str, Make], ...]] = MappingProxyType(
    {
        DType.F32: (
            *_COMMON,
            exponentials.SINGLES,
            logarithms.SINGLES,
            arcs.SINGLES,
            error_functions.SINGLES,
            wide.SINGLES,
        ),
        DType.F64: _COMMON,
    }
)


def lower(name: str, args: Sequence[Expr], dtype: DType, bind: Bind) -> Expr:
    """``name(*args)``: arguments of one type and width, the result in as many lanes.

    ``dtype`` is the arguments' type, f32, f64, an integer or bool. Raises :class:`KernelUnsupported` for a function
    that has no code on it.
    """
    for table in _tables(dtype):
        if name in table:
            return table[name](list(args), dtype, bind)
    raise KernelUnsupported(f"{name} of {dtype} has no generated code")


def vectorizes(name: str, dtype: DType) -> bool:
    """Whether a function takes vectors; where not, it is called lane by lane."""
    return any(name in table for table in _vector(dtype))


def _tables(dtype: DType) -> tuple[MappingProxyType[str, Make], ...]:
    """Where code for a type is looked for. A GPU's library is as exact as our own code, and knows its instructions."""
    if not dtype.is_float:
        return _vector(dtype)
    if on_gpu():
        return arithmetic.SHARED, arithmetic.FLOATS, library.LIBRARY, *_vector(dtype)
    return *_vector(dtype), library.LIBRARY


def _vector(dtype: DType) -> tuple[MappingProxyType[str, Make], ...]:
    return _VECTOR.get(dtype, (arithmetic.SHARED, arithmetic.INTEGERS))
