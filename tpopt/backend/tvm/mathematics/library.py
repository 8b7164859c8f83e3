"""Functions of the C library, one lane at a time: exact enough, and rare enough in what runs often."""

from __future__ import annotations

from types import MappingProxyType

from tvm import tirx

from tpopt.backend.tvm.code import Expr, differ, element_of
from tpopt.backend.tvm.mathematics.arithmetic import LANE_BY_LANE
from tpopt.backend.tvm.mathematics.floats import Bind, Make, like
from tpopt.ir import DType

_NAMES = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc lgamma "
    "pow atan2 hypot"
).split()


def call(name: str, *args: Expr) -> Expr:
    """The C library's function for the arguments' type."""
    suffix = "f" if element_of(args[0]) == "float32" else ""
    return tirx.call_pure_extern(element_of(args[0]), f"{name}{suffix}", *args)


def _library(name: str) -> Make:
    return lambda a, dtype, bind: call(name, *a)


def _angle(a: list[Expr], dtype: DType, bind: Bind) -> Expr:
    """Of a real number: 0 or pi, and NaN for NaN."""
    x = bind(a[0])
    angle = tirx.Select(x < like(0.0, x), like(3.141592653589793, x), like(0.0, x))
    return tirx.Select(differ(x, x), x, angle)


LIBRARY: MappingProxyType[str, Make] = MappingProxyType(
    {**{n: _library(n) for n in _NAMES}, **LANE_BY_LANE, "angle": _angle}
)
