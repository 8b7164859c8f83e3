"""The scalar functions of the IR as tirx expressions, on vectors wherever arithmetic alone computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

from tpopt.backend.tvm.code import Expr
from tpopt.backend.tvm.mathematics.arithmetic import FLOATS, INTEGERS, SHARED
from tpopt.backend.tvm.mathematics.exponentials import EXPONENTIALS
from tpopt.backend.tvm.mathematics.library import LIBRARY
from tpopt.errors import KernelUnsupported
from tpopt.ir import DType

Bind = Callable[[Expr], Expr]
"""Gives an expression a name, so that using it twice does not compute it twice."""


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
    return not any(name in t for t in _tables(dtype)[-1:]) or any(name in t for t in _tables(dtype)[:-1])


def _tables(dtype: DType) -> tuple[MappingProxyType[str, Callable[..., Expr]], ...]:
    if dtype is DType.F32:
        return SHARED, FLOATS, EXPONENTIALS, LIBRARY
    if dtype is DType.F64:
        return SHARED, FLOATS, LIBRARY
    return SHARED, INTEGERS, MappingProxyType({})
