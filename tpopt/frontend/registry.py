"""The table of lowerings: ATen overload -> function that writes its algebra.

A lowering takes a :class:`~tpopt.frontend.context.Context` and the operator's arguments by schema order (tensors as
:class:`~tpopt.ir.terms.Tensor`, run-time integers as :class:`~tpopt.ir.index.Index`, everything else as Python
values, defaults filled in) and returns the result tensor, a tuple of them (``None`` where an unused output is not
computed), or raises :class:`NoAlgebra` with the reason.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from tpopt.errors import TpoptError

Lowering: TypeAlias = Callable[..., Any]
Function = TypeVar("Function", bound=Lowering)


class NoAlgebra(TpoptError):
    """A lowering declines: the operator runs in torch, and the report says why."""


class Lowerings:
    """The lowerings of one file: ``lowers = Lowerings()`` at its top, ``@lowers("aten.add.Tensor", …)`` below."""

    def __init__(self) -> None:
        self.table: dict[str, Lowering] = {}

    def __call__(self, *targets: str) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            for target in targets:
                if target in self.table:
                    raise TpoptError(f"{target} is lowered twice in {function.__module__}")
                self.table[target] = function
            return function

        return register


@cache
def lowerings() -> Mapping[str, Lowering]:
    """All of :mod:`tpopt.frontend.lowerings`. Raises :class:`TpoptError` when two files claim one operator."""
    import tpopt.frontend.lowerings as package

    table: dict[str, Lowering] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        own = getattr(module, "lowers", None)
        for target, function in (own.table if isinstance(own, Lowerings) else {}).items():
            if target in table:
                raise TpoptError(f"{target} is lowered by {table[target].__module__} and {function.__module__}")
            table[target] = function
    return MappingProxyType(table)
