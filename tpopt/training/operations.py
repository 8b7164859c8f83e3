"""The graph of a step at the level of storages: which operator makes which memory, and who reads it.

A view is part of whoever reads it: it costs nothing and keeps what it looks at alive. An operator with several results
makes several storages with lives of their own. Parameters, buffers, the batch and constants are there from outside.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
import torch.fx
from torch.fx.node import map_arg
from torch.utils._pytree import arg_tree_leaves

from tpopt.errors import UnsupportedModel
from tpopt.passes.rematerialize import ComputationGraph

Value: TypeAlias = tuple[int, int]
"""The number of an operation, and the number of its result."""


@dataclass
class Operation:
    """One call of an operator: what it reads after the views in ``prelude``, and the bytes of each result.

    One that ``waits`` comes after everything before it in the capture that is not repeatable.
    """

    node: torch.fx.Node
    prelude: tuple[torch.fx.Node, ...]
    reads: tuple[Value, ...]
    sizes: tuple[int, ...]
    repeatable: bool
    seconds: float = 0.0
    waits: bool = False


@dataclass
class Operations:
    """All operations in the order of the capture, and the results: the views to take of which values."""

    items: list[Operation]
    values: dict[torch.fx.Node, Value]
    results: tuple[torch.fx.Node | None, ...]
    result_prelude: tuple[torch.fx.Node, ...]
    result_reads: tuple[Value, ...]
    views: Mapping[torch.fx.Node, tuple[torch.fx.Node, ...]] = field(default_factory=dict)
    """Of each view: the views to take one after the other, itself the last."""
    _nodes: dict[Value, list[torch.fx.Node]] = field(default_factory=dict)

    @staticmethod
    def of(graph: torch.fx.Graph) -> Operations:
        """Reads a captured graph. Raises :class:`UnsupportedModel` naming a node that is no functional ATen call."""
        return _Reader().read(graph)

    def base(self, node: torch.fx.Node) -> Value | None:
        """The value that a node looks at; ``None`` for what is there from outside."""
        while node in self.views:
            node = self.views[node][0].all_input_nodes[0]
        return self.values.get(node)

    def bases(self, nodes: Sequence[torch.fx.Node | None]) -> tuple[Value, ...]:
        """The values that some nodes look at, each once."""
        found = (self.base(n) for n in nodes if n is not None)
        return tuple(dict.fromkeys(b for b in found if b is not None))

    def views_of(self, nodes: Sequence[torch.fx.Node]) -> tuple[torch.fx.Node, ...]:
        """The views to take for some nodes, in order, each once."""
        return tuple(dict.fromkeys(view for n in nodes for view in self.views.get(n, ())))

    def nodes_of(self, value: Value) -> list[torch.fx.Node]:
        """The nodes that stand for a value, of which there is one in most graphs."""
        if not self._nodes:
            for node, made in self.values.items():
                self._nodes.setdefault(made, []).append(node)
        return self._nodes.get(value, [])

    def live_bytes(self, sequence: Sequence[int]) -> list[int]:
        """Bytes alive while each operation of a sequence runs: what is read later, and all of its results."""
        dies = self.last_reads(sequence)
        freed = [0] * (len(sequence) + 1)
        loads, live = [], 0
        for step, k in enumerate(sequence):
            live -= freed[step]
            for i, size in enumerate(self.items[k].sizes):
                live += size
                freed[dies.get((step, i), step) + 1] += size
            loads.append(live)
        return loads

    def last_reads(self, sequence: Sequence[int]) -> dict[tuple[int, int], int]:
        """By step and result: the step that reads it last; the length of the sequence for results of the whole."""
        latest: dict[int, int] = {}
        dies: dict[tuple[int, int], int] = {}
        for step, k in enumerate(sequence):
            for maker, i in self.items[k].reads:
                dies[latest[maker], i] = step
            latest[k] = step
        for maker, i in self.result_reads:
            dies[latest[maker], i] = len(sequence) - 1
        return dies


class _Reader:
    def __init__(self) -> None:
        self._items: list[Operation] = []
        self._values: dict[torch.fx.Node, Value] = {}
        self._several: dict[torch.fx.Node, int] = {}
        self._views: dict[torch.fx.Node, tuple[torch.fx.Node, ...]] = {}
        """Of each view: the views to take one after the other, itself the last."""

    def read(self, graph: torch.fx.Graph) -> Operations:
        results: tuple[torch.fx.Node | None, ...] = ()
        for node in graph.nodes:
            if node.op == "output":
                results = tuple(arg_tree_leaves(*node.args))
            elif node.op == "call_function":
                self._call(node)
            elif node.op not in {"placeholder", "get_attr"}:
                raise UnsupportedModel(f"node {node.name} of the captured step is a {node.op}, which has no schedule")
        prelude, reads = self._sources([n for n in results if n is not None])
        return Operations(self._items, self._values, results, prelude, reads, self._views)

    def _call(self, node: torch.fx.Node) -> None:
        source = node.args[0] if node.args else None
        if node.target is operator.getitem:
            assert isinstance(source, torch.fx.Node)
            if source in self._several:
                self._values[node] = (self._several[source], int(node.args[1]))  # type: ignore[arg-type]
            else:
                self._views[node] = (*self._views[source], node)
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            raise UnsupportedModel(f"node {node.name} calls {node.target}, which is no ATen operator")
        schema = node.target._schema
        if schema.is_mutable:
            raise UnsupportedModel(f"node {node.name} writes to an operand ({node.target}); it cannot be repeated")
        if any(r.alias_info is not None for r in schema.returns):
            assert isinstance(source, torch.fx.Node)
            self._views[node] = (*self._views.get(source, ()), node)
            return
        prelude, reads = self._sources(node.all_input_nodes)
        value = node.meta["val"]
        tensors = value if isinstance(value, (tuple, list)) else (value,)
        number = len(self._items)
        self._items.append(
            Operation(
                node,
                prelude,
                reads,
                tuple(t.untyped_storage().nbytes() if isinstance(t, torch.Tensor) else 0 for t in tensors),
                torch.Tag.nondeterministic_seeded not in node.target.tags,
            )
        )
        if isinstance(value, (tuple, list)):
            self._several[node] = number
        else:
            self._values[node] = (number, 0)

    def _sources(self, nodes: Sequence[torch.fx.Node]) -> tuple[tuple[torch.fx.Node, ...], tuple[Value, ...]]:
        """The views on the way to nodes, and the values that they rest on."""
        prelude = dict.fromkeys(view for n in nodes for view in self._views.get(n, ()))
        bases = (n for n in (*nodes, *(i for view in prelude for i in view.all_input_nodes)) if n not in self._views)
        return tuple(prelude), tuple(dict.fromkeys(self._values[n] for n in bases if n in self._values))


def schedule_graph(operations: Operations) -> tuple[ComputationGraph, dict[int, int]]:
    """The graph to schedule, and which of its nodes are which operations.

    The largest result of an operation is its node; its other results are nodes that take no time and read it, so that
    each has a life of its own; while it runs all of its results are there. Operations that draw random numbers keep
    their order by nodes without size between them. A last node reads all results. Durations are nanoseconds.
    """
    items = operations.items
    main = [max(range(len(op.sizes)), key=lambda i, op=op: op.sizes[i]) for op in items]  # type: ignore[misc]
    read = {value for op in items for value in op.reads} | set(operations.result_reads)
    sizes: list[int] = []
    durations: list[int] = []
    operands: list[list[int]] = []
    repeatable: list[bool] = []
    workspaces: list[int] = []
    names: list[str] = []
    number: dict[Value, int] = {}

    def add(name: str, size: int, duration: int, reads: list[int], repeats: bool, workspace: int = 0) -> int:
        names.append(name)
        sizes.append(size)
        durations.append(duration)
        operands.append(reads)
        repeatable.append(repeats)
        workspaces.append(workspace)
        return len(sizes) - 1

    steps: dict[int, int] = {}
    token: int | None = None
    for k, op in enumerate(items):
        reads = [number[value] for value in op.reads]
        ordered = [token] if token is not None and (op.waits or not op.repeatable) else []
        own, time = op.sizes[main[k]], max(1, round(op.seconds * 1e9))
        made = add(op.node.name, own, time, reads + ordered, op.repeatable, sum(op.sizes) - own)
        steps[made] = k
        number[k, main[k]] = made
        for i, size in enumerate(op.sizes):
            if i != main[k] and (k, i) in read:
                number[k, i] = add(f"{op.node.name}[{i}]", size, 0, [made], op.repeatable)
        if not op.repeatable:
            token = add(f"{op.node.name}:drawn", 0, 0, [made], False)
    add("results", 0, 0, [number[value] for value in operations.result_reads], False)
    graph = ComputationGraph.of(
        sizes,
        durations,
        operands,
        ids=names,
        order=range(len(sizes)),
        repeatable=repeatable,
        workspaces=workspaces,
    )
    return graph, steps


def arguments(node: torch.fx.Node, found: Mapping[torch.fx.Node, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with nodes replaced by what they stand for."""
    args: tuple[Any, ...] = map_arg(node.args, lambda n: found[n])
    kwargs: dict[str, Any] = map_arg(node.kwargs, lambda n: found[n])
    return args, kwargs
