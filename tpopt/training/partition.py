"""A differentiated graph of ``torch.compile`` within a memory budget: one schedule, cut where the forward results are.

AOTAutograd traces forward and backward as one graph and asks for two: the first returns what the model returns and what
the second needs. Here the schedule of the whole decides. What is alive at the cut is saved; what the schedule computes
again after it, the second graph computes again, when its turn comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch
import torch.fx
from torch.utils._pytree import arg_tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from tpopt.cost_models.roofline import RooflineModel
from tpopt.errors import UnsupportedModel
from tpopt.training.operations import Operations, Value

Halves: TypeAlias = tuple[torch.fx.GraphModule, torch.fx.GraphModule]
"""Forward and backward."""
PRIMALS: Final = "primals"
TANGENTS: Final = "tangents"


@dataclass(frozen=True)
class Joint:
    """A joint graph: its operations, how many of its results are the forward's, and the placeholders of either side."""

    module: torch.fx.GraphModule
    operations: Operations
    forward_results: int
    primals: tuple[torch.fx.Node, ...]
    tangents: tuple[torch.fx.Node, ...]

    @staticmethod
    def of(module: torch.fx.GraphModule, forward_results: int) -> Joint:
        """Reads what AOTAutograd traced; its operators' times are those of the roofline model.

        What the forward returns belongs to the caller: it is computed once, and lives to the end. Nothing that a
        tangent is needed for comes before it.

        Raises :class:`UnsupportedModel` where shapes are dynamic, or naming what has no schedule.
        """
        module.graph.eliminate_dead_code()
        placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        for node in placeholders:
            value = node.meta.get("val")
            if not str(node.target).startswith((PRIMALS, TANGENTS)) or not isinstance(value, torch.Tensor):
                raise UnsupportedModel(
                    f"input {node.name} of the joint graph is no tensor of the model or its gradient"
                )
            if not all(isinstance(n, int) for n in value.shape):
                raise UnsupportedModel(f"input {node.name} has dynamic shapes; a schedule is for fixed ones")
        primals = tuple(n for n in placeholders if str(n.target).startswith(PRIMALS))
        tangents = tuple(n for n in placeholders if n not in primals)
        operations = Operations.of(module.graph)
        returned = operations.bases(operations.results[:forward_results])
        for number, op in enumerate(operations.items):
            op.seconds = _seconds(op.node)
            op.repeatable = op.repeatable and not any((number, i) in returned for i in range(len(op.sizes)))
            op.waits = any(n in tangents for n in (*op.node.all_input_nodes, *_inputs(op.prelude)))
        return Joint(module, operations, forward_results, primals, tangents)

    def cut(self, sequence: Sequence[int]) -> Halves:
        """The two graphs of a schedule. The first returns the forward's results and then what the second takes first.

        The second takes the tangents after that.
        """
        results = self.operations.results
        there, back = results[: self.forward_results], results[self.forward_results :]
        returned = {number for number, _ in self.operations.bases(there)}
        end = max((step for step, k in enumerate(sequence) if k in returned), default=-1) + 1
        first, second = _Half(self), _Half(self)
        for node in self.primals:
            first.take(node)
        for k in sequence[:end]:
            first.run(k)
        values, outside = self._needed(sequence[end:])
        kept = [n for n in outside if n not in self.tangents]
        for value in values:
            second.take_value(value, first.value(value))
        for node in (*kept, *self.tangents):
            second.take(node)
        for k in sequence[end:]:
            second.run(k)
        saved = [*(first.value(v) for v in values), *(first.found[n] for n in kept)]
        return first.module([*first.results(there), *saved]), second.module(second.results(back))

    def _needed(self, rest: Sequence[int]) -> tuple[list[Value], list[torch.fx.Node]]:
        """What the second graph takes: values that the first made, and placeholders, in the order of their use."""
        ops = self.operations
        made: set[int] = set()
        values: dict[Value, None] = {}
        outside: dict[torch.fx.Node, None] = {}
        back = [n for n in ops.results[self.forward_results :] if n is not None]
        uses = [(ops.items[k].reads, ops.items[k].prelude, ops.items[k].node.all_input_nodes) for k in rest]
        last = (ops.bases(back), ops.views_of(back), back)
        for k, (reads, prelude, nodes) in zip((*rest, None), (*uses, last), strict=True):
            values.update(dict.fromkeys(v for v in reads if v[0] not in made))
            outside.update(dict.fromkeys(n for n in (*_inputs(prelude), *nodes) if n.op == "placeholder"))
            if k is not None:
                made.add(k)
        return list(values), list(outside)


@dataclass
class _Half:
    """One of the two graphs while it is written: ``found`` has what stands for a node of the joint graph by now."""

    joint: Joint
    graph: torch.fx.Graph = field(default_factory=torch.fx.Graph)
    found: dict[torch.fx.Node, torch.fx.Node] = field(default_factory=dict)

    def take(self, node: torch.fx.Node) -> None:
        """A placeholder of the joint graph."""
        self.found[node] = self._placeholder(node.name, node)

    def take_value(self, value: Value, source: torch.fx.Node) -> None:
        """A value that the other graph saves."""
        taken = self._placeholder(source.name, source)
        for node in self.joint.operations.nodes_of(value):
            self.found[node] = taken

    def _placeholder(self, name: str, like: torch.fx.Node) -> torch.fx.Node:
        made = self.graph.placeholder(name)
        made.meta = dict(like.meta)
        return made

    def run(self, number: int) -> None:
        """One operation, once more where it ran before: whoever reads its results later reads these."""
        op = self.joint.operations.items[number]
        self._views(op.prelude)
        made = self._copy(op.node)
        self.found[op.node] = made
        for i in range(len(op.sizes)):
            for node in self.joint.operations.nodes_of((number, i)):
                if node is not op.node:
                    self.found[node] = self._copy(node)

    def value(self, value: Value) -> torch.fx.Node:
        """What stands for a value now."""
        return self.found[self.joint.operations.nodes_of(value)[0]]

    def results(self, nodes: Sequence[torch.fx.Node | None]) -> list[torch.fx.Node | None]:
        """What stands for results, views among them."""
        self._views(self.joint.operations.views_of([n for n in nodes if n is not None]))
        return [None if n is None else self._source(n) for n in nodes]

    def module(self, results: Sequence[torch.fx.Node | None]) -> torch.fx.GraphModule:
        """The finished graph."""
        self.graph.output(tuple(results)).meta["desc"] = [None] * len(results)
        return torch.fx.GraphModule(self.joint.module, self.graph)

    def _views(self, nodes: Sequence[torch.fx.Node]) -> None:
        for node in nodes:
            self.found[node] = self._copy(node)

    def _copy(self, node: torch.fx.Node) -> torch.fx.Node:
        return self.graph.node_copy(node, self._source)

    def _source(self, node: torch.fx.Node) -> torch.fx.Node:
        if node.op == "get_attr" and node not in self.found:
            self.found[node] = self.graph.node_copy(node)
        return self.found[node]


def _inputs(nodes: Sequence[torch.fx.Node]) -> list[torch.fx.Node]:
    return [i for node in nodes for i in node.all_input_nodes]


def _seconds(node: torch.fx.Node) -> float:
    """Of one operator, by the roofline: nothing is run while a graph is cut."""
    tensors = [n.meta["val"] for n in node.all_input_nodes]
    with FlopCounterMode(display=False) as counter:
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        made = node.target(*args, **kwargs)  # type: ignore[operator]
    traffic = sum(t.nbytes for t in arg_tree_leaves(*tensors, made) if isinstance(t, torch.Tensor))
    return RooflineModel().price("original", counter.get_total_flops() / 2, 0, traffic) / 1e6


class _Emptying(torch.fx.graph.CodeGen):
    """Writes a graph as a function of one list, which it empties: so every value goes after its last reader."""

    def gen_fn_def(self, free_vars: list[str], maybe_return_annotation: str, **_: Any) -> str:
        names = [v.partition(":")[0].strip() for v in free_vars if v != "self"]
        taken = f"\n    {', '.join(names)}, = given\n    given.clear()" if names else ""
        return f"def forward(self, given){maybe_return_annotation}:{taken}"


def run_boxed(module: torch.fx.GraphModule, _inputs: Any) -> Any:
    """A graph as the callable of one list that AOTAutograd wants."""
    module.graph.set_codegen(_Emptying())
    module.recompile()
    function = module.forward

    def run(args: list[Any]) -> Any:
        with torch.no_grad():
            return function(args)

    run._boxed_call = True  # type: ignore[attr-defined]  # noqa: SLF001 - how AOTAutograd knows one
    return run
