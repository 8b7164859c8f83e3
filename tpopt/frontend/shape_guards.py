"""What an export assumed about run-time extents while it followed Python's branches, as a guard on the symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.utils._sympy.functions import Max, Min

from tpopt.errors import UnsupportedModel
from tpopt.frontend.symbols import Symbols
from tpopt.ir import Guard, Index, guard, index
from tpopt.ir.index import IndexLike

_UNBOUNDED = 1 << 62
Triple = tuple[IndexLike, IndexLike, IndexLike]


def shape_guard(exported: ExportedProgram, symbols: Symbols) -> Guard:
    """Holds for the extents that the exported graph was made for; empty where it serves every value of its symbols.

    A condition that has no index form pins its symbols to the extents of the example inputs.
    """
    shape_env = _shape_env(exported)
    if shape_env is None:
        return guard()
    triples: list[Triple] = []
    for condition in shape_env.guards:
        triples += _required(shape_env.replace(condition.expr), shape_env, symbols)  # equal extents have one symbol
    return guard(*triples)


def _shape_env(exported: ExportedProgram) -> Any:
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and hasattr(value, "fake_mode"):
            return value.fake_mode.shape_env
    return None


def _required(condition: Any, shape_env: Any, symbols: Symbols) -> Iterator[Triple]:
    if condition == sympy.true:
        return
    if isinstance(condition, sympy.And):
        for part in condition.args:
            yield from _required(part, shape_env, symbols)
        return
    known: Mapping[Any, Any] = shape_env.backed_var_to_val
    free = sorted(condition.free_symbols, key=str)
    if not free or any(s not in known for s in free):
        return  # about an integer read out of a tensor: the graph itself asserts it
    plain, orders = _without_extremes(condition, known)
    try:
        for part in orders:
            yield 0, symbols.index(part, shape_env), _UNBOUNDED
        if plain != sympy.true:
            yield _relation(plain, shape_env, symbols)
    except UnsupportedModel:
        for symbol in free:
            yield 0, symbols.index(symbol, shape_env) - int(known[symbol]), 1


def _relation(condition: Any, shape_env: Any, symbols: Symbols) -> Triple:
    form = _FORMS.get(type(condition).__name__)
    if form is None:
        raise UnsupportedModel(f"the condition {condition} on dynamic extents has no index form")
    left, right = (symbols.index(a, shape_env) for a in condition.args)
    return form(left - right)


def _without_extremes(condition: Any, known: Mapping[Any, Any]) -> tuple[Any, list[Any]]:
    """Maxima and minima as what they are for the example inputs, with the differences that must stay non-negative."""
    orders: list[Any] = []
    while extremes := [e for e in sympy.preorder_traversal(condition) if isinstance(e, (Max, Min))]:
        innermost = extremes[-1]
        sign = 1 if isinstance(innermost, Max) else -1
        chosen = max(innermost.args, key=lambda a: sign * int(a.xreplace(dict(known))))
        orders += [sign * (chosen - other) for other in innermost.args if other is not chosen]
        condition = condition.xreplace({innermost: chosen})
    return condition, orders


_FORMS: Mapping[str, Callable[[Index], Triple]] = MappingProxyType(
    {
        "Equality": lambda d: (0, d, 1),
        "Unequality": lambda d: (1, d * d, _UNBOUNDED),
        "StrictLessThan": lambda d: (1, index(0) - d, _UNBOUNDED),
        "LessThan": lambda d: (0, index(0) - d, _UNBOUNDED),
        "StrictGreaterThan": lambda d: (1, d, _UNBOUNDED),
        "GreaterThan": lambda d: (0, d, _UNBOUNDED),
    }
)
