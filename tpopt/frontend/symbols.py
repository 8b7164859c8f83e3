"""torch's symbolic integers (sympy expressions) as indices over :class:`~tpopt.ir.index.Symbol`."""

from __future__ import annotations

import math
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import sympy
import torch
from torch.utils._sympy.functions import (
    CeilToInt,
    CleanDiv,
    FloorDiv,
    FloorToInt,
    IntTrueDiv,
    Mod,
    PythonMod,
    ToFloat,
    TruncToInt,
)

from tpopt.errors import UnsupportedModel
from tpopt.ir.build import apply, position
from tpopt.ir.division import floordiv, mod
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, Lookup, Size, Symbol, index, multiply, size
from tpopt.ir.terms import Scalar, Tensor, cast, const

_FAR = 1 << 62
"""Bounds of an integer that nothing bounds."""


class Symbols:
    """Remembers the range of every symbol it has met, in order of appearance."""

    def __init__(self) -> None:
        self._known: dict[str, Symbol] = {}
        self._read: dict[str, Index] = {}
        self._read_numbers: dict[str, Scalar] = {}

    def read_out(self, value: torch.SymInt, source: Tensor) -> Index:
        """An integer read out of a tensor of one element: a lookup, also wherever torch's expressions name it."""
        bounds = value.node.shape_env.bound_sympy(value.node.expr)
        low = int(bounds.lower) if bounds.lower.is_Integer else -_FAR
        high = int(bounds.upper) + 1 if bounds.upper.is_Integer else _FAR
        found = index(Lookup(source, (index(0),) * source.rank, index(max(low, -_FAR)), index(min(high, _FAR))))
        self._read[str(value.node.expr)] = found
        return found

    def read_number(self, value: torch.SymFloat, source: Tensor) -> None:
        """A floating-point number read out of a tensor of one element: that element."""
        element = source.at([index(0)] * source.rank)
        self._read_numbers[str(value.node.expr)] = cast(element, DType.F64)

    @property
    def all(self) -> tuple[Symbol, ...]:
        """Every symbol met so far."""
        return tuple(self._known.values())

    def size(self, value: int | torch.SymInt) -> Size:
        """An extent: a plain integer, or an index over symbols."""
        if isinstance(value, torch.SymInt):
            return size(self._convert(value.node.expr, value.node.shape_env))
        return int(value)

    def shape(self, value: torch.Tensor) -> tuple[Size, ...]:
        """The extents of a (fake) tensor."""
        return tuple(self.size(s) for s in value.shape)

    def index(self, expression: Any, shape_env: Any) -> Index:
        """One of torch's integer expressions. Raises :class:`UnsupportedModel` where it has no index form."""
        return self._convert(expression, shape_env)

    def number(self, value: torch.SymFloat) -> Scalar:
        """A run-time floating-point number (``1 / math.sqrt(x.shape[1])``) as a term of type f64."""
        return self._float_term(value.node.expr, value.node.shape_env)

    def _float_term(self, expression: Any, shape_env: Any) -> Scalar:
        if expression.is_number:
            return const(float(expression), DType.F64)
        if str(expression) in self._read_numbers:
            return self._read_numbers[str(expression)]
        if isinstance(expression, ToFloat):
            return position(self._convert(expression.args[0], shape_env), DType.F64)
        if expression.is_integer:
            return position(self._convert(expression, shape_env), DType.F64)
        name = _FLOATS.get(type(expression).__name__)
        if name is None:
            raise UnsupportedModel(f"the run-time number {expression} has no algebra; make the dimensions in it static")
        return apply(name, *(self._float_term(a, shape_env) for a in expression.args))

    def truth(self, value: torch.SymBool) -> Scalar:
        """A condition on dynamic extents as a term of type bool."""
        return self._truth(value.node.expr, value.node.shape_env)

    def _truth(self, expression: Any, shape_env: Any) -> Scalar:
        name = _TRUTHS.get(type(expression).__name__)
        if name is None:
            raise UnsupportedModel(f"the condition {expression} on dynamic extents has no algebra; make them static")
        if name in ("and", "or", "not"):
            return apply(name, *(self._truth(a, shape_env) for a in expression.args))
        return apply(name, *(position(self._convert(a, shape_env)) for a in expression.args))

    def _symbol(self, expression: sympy.Symbol, shape_env: Any) -> Symbol:
        name = str(expression)
        if name not in self._known:
            bounds = shape_env.bound_sympy(expression)
            high = None if not bounds.upper.is_Integer else int(bounds.upper)
            low = max(0, int(bounds.lower)) if bounds.lower.is_Integer else 0
            self._known[name] = Symbol(name, low, high if high is None or high < 2**62 else None)
        return self._known[name]

    def _floor_of(self, expression: Any, shape_env: Any) -> Index:
        """The floor of a fraction of run-time integers (never negative, so truncation is the same)."""
        factor, whole = Fraction(1), expression
        if isinstance(whole, IntTrueDiv) and whole.args[1].is_Integer:
            return floordiv(self._convert(whole.args[0], shape_env), int(whole.args[1]))
        if isinstance(whole, sympy.Mul) and len(whole.args) == 2 and whole.args[0].is_number:
            factor, whole = _fraction(float(whole.args[0])), whole.args[1]
        if isinstance(whole, ToFloat):
            return floordiv(self._convert(whole.args[0], shape_env) * factor.numerator, factor.denominator)
        raise UnsupportedModel(
            f"the symbolic extent {expression}, rounded down, has no index form; make that dimension static"
        )

    def _convert(self, expression: Any, shape_env: Any) -> Index:
        if expression.is_Integer:
            return index(int(expression))
        if expression.is_Symbol:
            return self._read.get(str(expression)) or index(self._symbol(expression, shape_env))
        if isinstance(expression, (TruncToInt, FloorToInt, CeilToInt)):
            up = isinstance(expression, CeilToInt)
            return (
                -self._floor_of(-expression.args[0], shape_env) if up else self._floor_of(expression.args[0], shape_env)
            )
        parts = [self._convert(a, shape_env) for a in expression.args if not isinstance(expression, sympy.Pow)]
        match expression:
            case sympy.Add():
                return sum(parts[1:], start=parts[0])
            case sympy.Mul():
                total = parts[0]
                for part in parts[1:]:
                    total = multiply(total, part)
                return total
            case sympy.Pow() if expression.args[1].is_Integer and expression.args[1] > 0:
                base, total = self._convert(expression.args[0], shape_env), index(1)
                for _ in range(int(expression.args[1])):
                    total = multiply(total, base)
                return total
            case FloorDiv() | CleanDiv() | IntTrueDiv():
                return floordiv(*parts)
            case Mod() | PythonMod():
                return mod(*parts)
        raise UnsupportedModel(f"the symbolic extent {expression} has no index form; make that dimension static")


_FLOATS = MappingProxyType(
    {
        "Add": "add", "Mul": "mul", "Pow": "pow", "FloatPow": "pow", "FloatTrueDiv": "div", "IntTrueDiv": "div",
        "OpaqueUnaryFn_sqrt": "sqrt", "OpaqueUnaryFn_exp": "exp", "OpaqueUnaryFn_log": "log",
    }
)  # fmt: skip


_TRUTHS = MappingProxyType(
    {
        "Equality": "eq", "Unequality": "ne", "StrictLessThan": "lt", "LessThan": "le", "StrictGreaterThan": "gt",
        "GreaterThan": "ge", "And": "and", "Or": "or", "Not": "not",
    }
)  # fmt: skip


def _fraction(factor: float) -> Fraction:
    """The simple fraction that rounds as a floating-point factor does.

    Raises :class:`UnsupportedModel` where none does.
    """
    found = Fraction(factor).limit_denominator(1 << 16)
    sampled = range(1, 4097)
    if any(math.floor(n * factor) != n * found.numerator // found.denominator for n in sampled):
        raise UnsupportedModel(f"a dynamic extent times {factor} depends on rounding; make that dimension static")
    return found
