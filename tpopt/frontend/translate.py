"""A functional FX graph of ATen operators -> algebra stages and, beside them, the original calls.

Each operator is tried in this order: its lowering; its torch decomposition, lowered piece by piece; opaque. Whatever
happens inside, the tensors an operator yields keep one name in both programs.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.utils import _pytree as pytree

from tpopt.errors import InvalidProgram, TpoptError, UnsupportedModel
from tpopt.frontend.context import Context, Nested
from tpopt.frontend.effects import has_effects
from tpopt.frontend.own_weights import OwnWeights
from tpopt.frontend.registry import NoAlgebra, lowerings
from tpopt.frontend.sources import origin_of
from tpopt.frontend.symbols import Symbols
from tpopt.ir import Builder, Index, Lookup, Opaque, Origin, Stage, Tensor, compute, index
from tpopt.ir.aten import encode, from_torch_dtype, target_name
from tpopt.ir.index import walk_atoms
from tpopt.ir.program import Array
from tpopt.ir.stages import Attribute
from tpopt.ir.walk import map_stage_tensors

Outs: TypeAlias = tuple[Tensor | None, ...]
Value: TypeAlias = Any  # Tensor | Index | number | str | None | tuple of these
_ASSERTIONS = (
    "aten._assert_scalar.default",
    "aten._assert_tensor_metadata.default",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
)
_DATA = ("aten.item.default", "aten._local_scalar_dense.default")
_FAILURES = (
    TpoptError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ArithmeticError,
)


@dataclass
class Translation:
    """What translating a graph yields, filled in node by node."""

    builder: Builder
    symbols: Symbols
    constants: dict[str, Array]
    originals: list[Stage] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    own: OwnWeights = field(init=False)

    def __post_init__(self) -> None:
        self.own = OwnWeights(self.builder, self.constants)

    def run(self, graph: fx.Graph, env: dict[fx.Node, Value], modules: Mapping[str, Any]) -> Value:
        """Translates every node after the placeholders (which ``env`` holds); returns the output's value."""
        for node in graph.nodes:
            if node.op == "call_function":
                env[node] = self._call(node, env, modules)
            elif node.op == "get_attr":
                env[node] = _attribute(modules, node.target)
            elif node.op == "output":
                return fx.node.map_arg(node.args[0], lambda n: env[n])
        raise UnsupportedModel("the graph has no output node")

    def _call(self, node: fx.Node, env: dict[fx.Node, Value], modules: Mapping[str, Any]) -> Value:
        if node.target is operator.getitem:
            return env[node.args[0]][node.args[1]]  # type: ignore[index]
        result = node.meta.get("val")
        if isinstance(result, torch.SymInt):
            if _target(node) in _DATA:
                return self.symbols.read_out(result, env[node.args[0]])  # type: ignore[index]
            return index(self.symbols.size(result))
        if isinstance(result, (int, float, bool)):
            return result
        if isinstance(result, torch.SymFloat):
            if _target(node) in _DATA:
                self.symbols.read_number(result, env[node.args[0]])  # type: ignore[index]
            return self._number(node, result)
        if isinstance(result, torch.SymBool) or _asserts(node.target):
            return None  # what torch checks about symbols is in their ranges
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            from tpopt.frontend.control import translate_control

            return translate_control(self, node, env, modules)
        if not isinstance(node.target, torch._ops.OpOverload):
            raise UnsupportedModel(
                f"{node.name} calls {node.target}, which is no ATen operator ({'; '.join(origin_of(node).lines)})"
            )
        return self._operator(node, env)

    def _number(self, node: fx.Node, value: torch.SymFloat) -> Value:
        """A run-time number as a tensor of rank 0, where an operator takes it."""
        if not any(isinstance(u.target, torch._ops.OpOverload) for u in node.users):
            return None
        stage = compute(self.builder.name(node.name), (), lambda: self.symbols.number(value))
        self.originals.append(self.builder.add(stage))
        return stage.outs[0]

    def _operator(self, node: fx.Node, env: dict[fx.Node, Value]) -> Value:
        target = target_name(node.target)
        outs, nesting = self.declare(node)
        args, kwargs = arguments(node, env)
        call = self._original(target, outs, args, kwargs, node)
        origin = origin_of(node)
        used = used_results(node, len(outs))
        lowered, stages, reason = self.lower(node, outs, used, args, kwargs)
        by_algebra = _depends_on_data((args, kwargs))
        if lowered is None and by_algebra:
            raise UnsupportedModel(
                f"{target} takes an integer read out of a tensor ({'; '.join(origin.lines)}): {reason}"
            )
        if lowered is None:
            self.originals.append(call)
            self.builder.add(call)
            self.reasons[call.outs[0].name if call.outs else node.name] = reason
            lowered = outs
        else:
            for stage in stages:
                self.builder.add(stage)
                self.origins.update(dict.fromkeys((o.name for o in stage.outs), origin))
            if any(o is not None and lowered[k] is o for k, o in enumerate(outs)):
                self.originals += stages if by_algebra else [call]
        self.origins.update(dict.fromkeys((o.name for o in outs if o is not None), origin))
        return pytree.tree_unflatten(lowered, nesting)

    def declare(self, node: fx.Node, prefix: str = "") -> tuple[Outs, pytree.TreeSpec]:
        """The tensors a node yields, named after it, and how they are nested."""
        value = node.meta.get("val")
        leaves, nesting = pytree.tree_flatten(tuple(value) if isinstance(value, tuple) else value)
        names = [node.name] if nesting.is_leaf() else [f"{node.name}.{k}" for k in range(len(leaves))]
        return tuple(
            self._tensor(self.builder.name(prefix + name), v) if isinstance(v, torch.Tensor) else None
            for name, v in zip(names, leaves, strict=True)
        ), nesting

    def _tensor(self, name: str, value: torch.Tensor) -> Tensor:
        if value.layout is not torch.strided:
            raise UnsupportedModel(f"{name} is a {value.layout} tensor; convert it with to_dense()")
        shape = self.symbols.shape(value)
        if _depends_on_data(shape):
            raise UnsupportedModel(f"the shape of {name} depends on an integer read out of a tensor")
        return Tensor(name, shape, from_torch_dtype(value.dtype))

    def _original(self, target: str, outs: Sequence[Tensor | None], args: Any, kwargs: Any, node: fx.Node) -> Opaque:
        assert isinstance(node.target, torch._ops.OpOverload)
        effectful = has_effects(node.target, args, kwargs)
        encoded = tuple(encode(a, _leaf) for a in args)
        keywords = tuple((k, encode(v, _leaf)) for k, v in sorted(kwargs.items()))
        return Opaque(tuple(o for o in outs if o is not None), target, encoded, keywords, effectful)

    def lower(
        self,
        node: fx.Node,
        outs: Outs,
        used: tuple[bool, ...],
        args: list[Value],
        kwargs: Mapping[str, Value],
        depth: int = 0,
    ) -> tuple[Outs | None, list[Stage], str]:
        """Algebra of one operator: ``(results, stages, "")``, or ``(None, [], reason)`` when it stays whole."""
        op: Any = node.target
        rule = lowerings().get(target_name(op))
        builder = Nested(self.builder)
        try:
            if rule is None:
                from tpopt.frontend.decompose import decompose

                results, stages = decompose(self, node, args, kwargs, depth)
            else:
                base = next((o.name for o in outs if o is not None), node.name)
                memory = _memory(node, args)
                context = Context(target_name(op), builder, base, outs, used, self.constants, self.own, memory)
                result = rule(context, *_by_schema(op, args, kwargs))
                results, stages = result if isinstance(result, tuple) else (result,), builder.stages
            return (*self._rename(outs, used, results, stages), "")
        except NoAlgebra as refusal:
            return None, [], str(refusal)
        except _FAILURES as error:
            return None, [], f"its lowering failed: {type(error).__name__}: {error}"

    def _rename(
        self, outs: Outs, used: tuple[bool, ...], results: Outs, stages: list[Stage]
    ) -> tuple[Outs, list[Stage]]:
        """Gives the results of a lowering the names that torch's results have."""
        own = {o for s in stages for o in s.outs}
        renamed: dict[Tensor, Tensor] = {}
        final: list[Tensor | None] = []
        for k, out in enumerate(outs):
            got = results[k] if k < len(results) else None
            if out is None or (got is None and not used[k]):
                final.append(None)
                continue
            if (
                got is None
                or tuple(map(index, got.shape)) != tuple(map(index, out.shape))
                or got.dtype is not out.dtype
            ):
                raise InvalidProgram(f"result {k} should be {out!r}, the lowering gave {got!r}")
            if got in own and got not in renamed:
                renamed[got] = Tensor(out.name, got.shape, got.dtype, got.layout, got.structure)
            final.append(renamed.get(got, got))
        return tuple(final), [map_stage_tensors(s, lambda t: renamed.get(t, t)) for s in stages]


def _target(node: fx.Node) -> str:
    return target_name(node.target) if isinstance(node.target, torch._ops.OpOverload) else ""


def _depends_on_data(values: Any) -> bool:
    """Whether an argument is an integer read out of a tensor, which a call cannot be given by value."""
    leaves = pytree.tree_leaves(values)
    return any(isinstance(a, Lookup) for v in leaves if isinstance(v, Index) for a in walk_atoms(v))


def _asserts(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target_name(target) in _ASSERTIONS


def _attribute(modules: Mapping[str, Any], target: Any) -> Any:
    if target not in modules:
        raise UnsupportedModel(f"the graph reads attribute {target!r}, which is neither an input nor a weight")
    return modules[target]


def _leaf(value: Any) -> Attribute | None:
    return value if isinstance(value, (Tensor, Index)) else None


def arguments(node: fx.Node, env: dict[fx.Node, Value]) -> tuple[Any, dict[str, Any]]:
    """Positional and keyword arguments of a node, with the values of other nodes in their places."""
    look: Any = lambda n: _Boxed(env[n])  # noqa: E731 - boxed, so that tuples are not mapped into again
    boxed: Any = fx.node.map_arg((node.args, node.kwargs), look)
    args, kwargs = boxed
    return _unbox(args), {k: _unbox(v) for k, v in kwargs.items()}


@dataclass(frozen=True)
class _Boxed:
    value: Any


def _unbox(value: Any) -> Any:
    if isinstance(value, _Boxed):
        return value.value
    if isinstance(value, (list, tuple)):
        return [_unbox(v) for v in value]
    return value


def _memory(node: fx.Node, args: Sequence[Value]) -> dict[Tensor, tuple[int, ...]]:
    """For each argument that fills its memory from its start, its axes from the widest stride to the narrowest."""
    found: dict[Tensor, tuple[int, ...]] = {}
    for source, value in zip(node.args, args, strict=True):
        fake = source.meta.get("val") if isinstance(source, fx.Node) else None
        if not isinstance(fake, torch.Tensor) or not isinstance(value, Tensor) or fake.storage_offset():
            continue
        strides = fake.stride()
        static = all(isinstance(s, int) for s in strides)
        order = sorted(range(fake.dim()), key=lambda a: (-strides[a], a)) if static else range(fake.dim())
        if fake.permute(tuple(order)).is_contiguous():
            found[value] = tuple(order)
    return found


def _by_schema(op: Any, args: list[Value], kwargs: Mapping[str, Value]) -> list[Value]:
    """Positional arguments for a lowering: every schema argument in order, defaults filled in."""
    filled = list(args)
    for argument in op._schema.arguments[len(filled) :]:
        if argument.name in kwargs:
            filled.append(kwargs[argument.name])
        elif argument.has_default_value():
            filled.append(argument.default_value)
        else:
            raise InvalidProgram(f"argument {argument.name} of {op} is missing")
    return filled


def used_results(node: fx.Node, count: int) -> tuple[bool, ...]:
    """Which of a node's results somebody reads."""
    value = node.meta.get("val")
    if not isinstance(value, (list, tuple)) or any(isinstance(v, (list, tuple)) for v in value):
        return (True,) * count
    picked = {u.args[1] for u in node.users if u.target is operator.getitem}
    whole = any(u.target is not operator.getitem for u in node.users)
    return tuple(whole or k in picked for k in range(count))
