"""torch's symbolic integers (sympy expressions) as indices over :class:`~tpopt.ir.index.Symbol`."""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch.utils._sympy.functions import CleanDiv, FloorDiv, IntTrueDiv, Mod, PythonMod

from tpopt.errors import UnsupportedModel
from tpopt.ir.division import floordiv, mod
from tpopt.ir.index import Index, Size, Symbol, index, multiply, size


class Symbols:
    """Remembers the range of every symbol it has met, in order of appearance."""

    def __init__(self) -> None:
        self._known: dict[str, Symbol] = {}

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

    def _symbol(self, expression: sympy.Symbol, shape_env: Any) -> Symbol:
        name = str(expression)
        if name not in self._known:
            bounds = shape_env.bound_sympy(expression)
            high = None if not bounds.upper.is_Integer else int(bounds.upper)
            low = max(0, int(bounds.lower)) if bounds.lower.is_Integer else 0
            self._known[name] = Symbol(name, low, high if high is None or high < 2**62 else None)
        return self._known[name]

    def _convert(self, expression: Any, shape_env: Any) -> Index:
        if expression.is_Integer:
            return index(int(expression))
        if expression.is_Symbol:
            return index(self._symbol(expression, shape_env))
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
