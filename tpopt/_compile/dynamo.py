"""``torch.compile(model, backend="tpopt")``: each graph that Dynamo captures is compiled as a model of its own.

Dynamo passes parameters and buffers as inputs. Those that stay what they are become constants again, so that they can
be folded and packed; a call that brings other ones, or changed ones, is compiled anew, a bounded number of times, and
buffers that change are inputs from then on. A graph that has to be differentiated runs as it was captured, or within a
memory budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.export import Dim

from tpopt._compile.door import compile as compile_model
from tpopt.errors import UsageError
from tpopt.options import Options
from tpopt.runtime.compiled import CompiledModel
from tpopt.training.differentiated import within_budget

_log = logging.getLogger("tpopt")

REPORTS: Final = "reports"
MEMORY_BUDGET: Final = "memory_budget"
MOST_COMPILATIONS: Final = 4
"""Of one graph, when its weights change between calls; after that the graph runs as it was captured."""


def backend(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    **other: Any,
) -> Callable[..., Any]:
    """What ``torch.compile(model, backend="tpopt", options={...})`` calls for each graph.

    Args:
        graph: what Dynamo captured.
        example_inputs: tensors and integers of the first call, parameters and buffers among them.
        options: fields of :class:`tpopt.Options` by name; ``"reports"``, a list that takes the report of each graph;
            ``"memory_budget"``, bytes for forward and backward of a graph that is differentiated, as
            :func:`tpopt.training.differentiated.within_budget` takes them.
        other: what else ``torch.compile`` passes on, such as ``mode``: there is none that tpopt takes.

    Raises:
        UnknownName: an option that does not exist.
        UsageError: ``reports`` is no list, ``memory_budget`` no budget, or a ``mode`` was given.
    """
    given = dict(options or {})
    reports, memory_budget = given.pop(REPORTS, []), given.pop(MEMORY_BUDGET, None)
    if not isinstance(reports, list):
        raise UsageError(f"options[{REPORTS!r}]={reports!r}: expected a list, which takes the report of each graph")
    if other:
        raise UsageError(f"torch.compile(..., {next(iter(other))}=...): tpopt takes options={{...}}, such as effort")
    chosen = Options.of(None, given)
    if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in example_inputs):
        if memory_budget is not None:
            return within_budget(graph, example_inputs, memory_budget, chosen, reports)
        _log.warning(
            "%s has to be differentiated, so it runs as it was captured; call it under torch.no_grad(), or give a "
            "memory_budget",
            type(graph).__name__,
        )
        return graph.forward
    return _Graph(graph, chosen, reports)


@dataclass(frozen=True)
class _Ready:
    """One compilation: the constants it holds, with their versions, and the inputs that vary."""

    constants: tuple[tuple[int, torch.Tensor, int], ...]
    varying: tuple[int, ...]
    model: CompiledModel

    def fits(self, args: Sequence[Any]) -> bool:
        """Whether the constants are the same tensors with the same values."""
        return all(_same(args[n], t, v) for n, t, v in self.constants)


class _Graph:
    """One captured graph as a callable of its inputs."""

    def __init__(self, graph: torch.fx.GraphModule, options: Options, reports: list[Any]) -> None:
        self._graph, self._options, self._reports = graph, options, reports
        self._placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
        self._ready: list[_Ready] = []
        self._moving: set[int] = set()

    def __call__(self, *args: Any) -> Any:
        for ready in self._ready:
            if ready.fits(args):
                return ready.model(*[args[n] for n in ready.varying])
        if len(self._ready) >= MOST_COMPILATIONS:
            return self._graph(*args)
        self._moving |= {
            n for r in self._ready for n, t, v in r.constants
            if not isinstance(t, torch.nn.Parameter) and not _same(args[n], t, v)
        }  # fmt: skip
        self._ready.append(self._compiled(args))
        self._reports.append(self._ready[-1].model.report)
        return self._ready[-1].model(*[args[n] for n in self._ready[-1].varying])

    def _compiled(self, args: Sequence[Any]) -> _Ready:
        constants = [
            n for n, node in enumerate(self._placeholders) if n not in self._moving and _is_constant(node, args[n])
        ]
        ready = self._with_constants(args, constants)
        program = ready.model.program
        tensors = [n for n in ready.varying if isinstance(args[n], torch.Tensor)]
        if constants and program is not None and len(program.inputs) > len(tensors):
            return self._with_constants(
                args, []
            )  # the graph writes to one of them, which has to reach the user's model
        return ready

    def _with_constants(self, args: Sequence[Any], constants: Sequence[int]) -> _Ready:
        derived = _sizes_of_inputs(self._placeholders, constants)
        varying = tuple(n for n in range(len(args)) if n not in constants and n not in derived)
        module = _Frozen(self._graph, {n: args[n] for n in constants}, derived, varying)
        shapes = [_dynamic(self._placeholders[n]) for n in varying]
        dynamic = (tuple(shapes),) if any(shapes) else None
        model = compile_model(module, [args[n] for n in varying], dynamic_shapes=dynamic, options=self._options)
        return _Ready(tuple((n, args[n], _version(args[n])) for n in constants), varying, model)


class _Frozen(torch.nn.Module):
    """The graph on the inputs that vary: constants are buffers, and run-time sizes come from the tensors' shapes."""

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        constants: Mapping[int, torch.Tensor],
        derived: Mapping[int, tuple[int, int]],
        varying: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.graph = graph
        self._derived, self._varying, self._constants = dict(derived), varying, tuple(constants)
        for number, value in constants.items():
            self.register_buffer(f"constant{number}", value.detach())
        self.eval()

    def forward(self, *tensors: Any) -> Any:
        values: dict[int, Any] = {n: getattr(self, f"constant{n}") for n in self._constants}
        values.update(zip(self._varying, tensors, strict=True))
        for number, (source, axis) in self._derived.items():
            values[number] = values[source].shape[axis]
        return self.graph(*(values[n] for n in range(len(values))))


def _same(value: Any, tensor: torch.Tensor, version: int) -> bool:
    return value is tensor and _version(tensor) == version


def _is_constant(node: torch.fx.Node, value: Any) -> bool:
    """Whether a placeholder is a parameter or a buffer of the user's model."""
    if not isinstance(value, torch.Tensor):
        return False
    source = getattr(node, "_dynamo_source", None)
    name = source.name if source is not None else ""
    name = name() if callable(name) else name
    return isinstance(value, torch.nn.Parameter) or "_buffers" in name or "_parameters" in name


def _sizes_of_inputs(placeholders: Sequence[torch.fx.Node], constants: Sequence[int]) -> dict[int, tuple[int, int]]:
    """For each integer that is the extent of a tensor: which tensor's, and of which axis."""
    places: dict[Any, tuple[int, int]] = {}
    for number, node in enumerate(placeholders):
        value = node.meta.get("example_value")
        if number not in constants and isinstance(value, torch.Tensor):
            for axis, extent in enumerate(_extents(value)):
                if isinstance(extent, torch.SymInt):
                    places.setdefault(extent.node.expr, (number, axis))
    found = {}
    for number, node in enumerate(placeholders):
        value = node.meta.get("example_value")
        if isinstance(value, torch.SymInt) and value.node.expr in places:
            found[number] = places[value.node.expr]
    return found


def _dynamic(node: torch.fx.Node) -> dict[int, Any] | None:
    value = node.meta.get("example_value")
    if not isinstance(value, torch.Tensor):
        return None
    return {axis: Dim.AUTO for axis, extent in enumerate(_extents(value)) if isinstance(extent, torch.SymInt)} or None


def _extents(tensor: torch.Tensor) -> tuple[Any, ...]:
    """The shape, whose extents may be symbols while Dynamo traces, whatever their declared type."""
    return tuple(tensor.shape)


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 - torch's only count of writes
