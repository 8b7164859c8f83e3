"""Operators without a lowering of their own: torch's decomposition of them, lowered piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from tpopt.frontend.registry import NoAlgebra
from tpopt.ir.aten import from_torch_dtype, target_name, to_numpy

if TYPE_CHECKING:
    from tpopt.frontend.translate import Outs, Translation, Value
    from tpopt.ir import Stage

MAX_DEPTH = 4


@cache
def _table() -> Mapping[Any, Callable[..., Any]]:
    from torch._decomp import decomposition_table

    return decomposition_table


def decompose(
    translation: Translation, node: fx.Node, args: list[Value], kwargs: Mapping[str, Value], depth: int
) -> tuple[Outs, list[Stage]]:
    """Results and stages of an operator through its decomposition.

    Raises :class:`NoAlgebra` naming the piece that has none.
    """
    op: Any = node.target
    if not node.all_input_nodes and torch.Tag.nondeterministic_seeded not in op.tags:
        return _evaluated(translation, node), []
    graph = _traced(node, depth)
    flat, _ = pytree.tree_flatten((list(node.args), dict(node.kwargs)))
    values, _ = pytree.tree_flatten([args, dict(kwargs)], is_leaf=lambda v: not isinstance(v, (list, dict)))
    tensors = [v for n, v in zip(flat, values, strict=True) if isinstance(n, fx.Node) and _is_fake(n)]
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    env: dict[fx.Node, Any] = dict(zip(placeholders, tensors, strict=True))
    stages: list[Stage] = []
    for piece in graph.nodes:
        if piece.op == "call_function":
            env[piece] = _piece(translation, piece, env, stages, target_name(op), node.name, depth)
        elif piece.op == "get_attr":
            raise NoAlgebra(f"{target_name(op)} decomposes with a constant tensor")
        elif piece.op == "output":
            result = fx.node.map_arg(piece.args[0], lambda n: env[n])
            return tuple(result) if isinstance(result, (list, tuple)) else (result,), stages
    raise NoAlgebra(f"{target_name(op)} decomposes into a graph without output")


def _evaluated(translation: Translation, node: fx.Node) -> Outs:
    """An operator of nothing but numbers (a window function) is a constant: its values."""
    op: Any = node.target
    values, _ = pytree.tree_flatten(op(*node.args, **{**node.kwargs, "device": "cpu"}))
    return tuple(translation.own.table(node.name, to_numpy(v), from_torch_dtype(v.dtype)) for v in values)


def _traced(node: fx.Node, depth: int) -> fx.Graph:
    op: Any = node.target
    functions = _decompositions(op)
    if not functions or depth >= MAX_DEPTH:
        raise NoAlgebra(f"{target_name(op)} has no lowering and no decomposition")
    flat, spec = pytree.tree_flatten((list(node.args), dict(node.kwargs)))
    values = [n.meta["val"] if isinstance(n, fx.Node) else n for n in flat]
    places = [k for k, v in enumerate(values) if isinstance(v, torch.Tensor)]
    fakes = [values[k] for k in places]
    mode = next((t.fake_mode for t in fakes if isinstance(t, FakeTensor)), None)
    if mode is None:
        raise NoAlgebra(f"{target_name(op)} has no tensor argument to trace its decomposition with")

    def run(function: Callable[..., Any], *tensors: torch.Tensor) -> Any:
        filled = list(values)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return function(*_mutable(args), **{k: _mutable(v) for k, v in kwargs.items()})

    refused: Exception | None = None
    for function in functions:
        try:
            with mode, torch.no_grad():
                return _functional(make_fx(partial(run, function))(*fakes), fakes)
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            refused = error
    raise NoAlgebra(f"{target_name(op)} has no lowering, and its decomposition fails: {refused}") from refused


def _decompositions(op: Any) -> list[Callable[..., Any]]:
    """torch's decompositions of an operator, the preferred one first."""
    found = [_table().get(op), op.decompose if op._can_decompose() else None, getattr(op, "prim_impl_aten", None)]
    return [f for f in found if f is not None]


def _functional(traced: fx.GraphModule, fakes: list[Any]) -> fx.Graph:
    """The graph without operators that overwrite their arguments, and without what nobody reads."""
    if any(isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable for n in traced.graph.nodes):
        traced = make_fx(torch.func.functionalize(traced))(*fakes)
    traced.graph.eliminate_dead_code()
    return traced.graph


def _mutable(value: Any) -> Any:
    """fx's immutable lists as plain ones: decompositions may edit their arguments."""
    return [_mutable(v) for v in value] if isinstance(value, list) else value


def _is_fake(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _piece(
    translation: Translation,
    piece: fx.Node,
    env: dict[fx.Node, Any],
    stages: list[Stage],
    whole: str,
    prefix: str,
    depth: int,
) -> Value:
    import operator

    from tpopt.frontend.translate import arguments, used_results
    from tpopt.ir.index import index

    if piece.target is operator.getitem:
        return env[piece.args[0]][piece.args[1]]  # type: ignore[index]
    value = piece.meta.get("val")
    if isinstance(value, torch.SymInt):
        return index(translation.symbols.size(value))
    if isinstance(value, (int, float, bool)):
        return value
    if isinstance(piece.target, type) and issubclass(piece.target, tuple):  # a named tuple of results
        return tuple(arguments(piece, env)[0][0] if len(piece.args) == 1 else arguments(piece, env)[0])
    if not isinstance(piece.target, torch._ops.OpOverload):
        raise NoAlgebra(f"{whole} decomposes into {piece.target}")
    outs, nesting = translation.declare(piece, prefix=f"{prefix}.")
    args, kwargs = arguments(piece, env)
    lowered, own, reason = translation.lower(piece, outs, used_results(piece, len(outs)), args, kwargs, depth + 1)
    if lowered is None:
        raise NoAlgebra(f"{whole} decomposes into {target_name(piece.target)}, which has no algebra: {reason}")
    stages.extend(own)
    return pytree.tree_unflatten(lowered, nesting)
