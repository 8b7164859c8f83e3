"""``trace``: a model and example inputs in, two programs over the same tensor names out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from tpopt.errors import UnsupportedModel
from tpopt.frontend.capture import capture
from tpopt.frontend.shape_guards import shape_guard
from tpopt.frontend.symbols import Symbols
from tpopt.frontend.translate import Translation
from tpopt.ir import Alias, Builder, Guard, Origin, Program, Tensor, guard
from tpopt.ir.aten import from_torch_dtype, to_numpy
from tpopt.ir.walk import stage_reads

_USER_OUTPUT = OutputKind.USER_OUTPUT
_WEIGHTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass(frozen=True)
class Traced:
    """A model as two programs over the same names.

    ``algebra`` holds what has algebra as algebra and the rest as Opaque stages; ``original`` is one Opaque stage for
    each traced operator. Inputs of both are the user's tensor inputs, then ``states`` (buffers the model updates; the
    runtime keeps their values and applies the aliases). ``inputs`` describes the flattened user inputs: a tensor name,
    or ``None`` for a value that is not a tensor and was specialised on (``fixed`` holds it). ``outputs`` describes the
    flattened results: a Tensor, an Index (a run-time integer) or a plain value. Both programs hold for run-time extents
    at which ``guard`` does: following Python's branches may have assumed more than the symbols' ranges say.
    """

    algebra: Program
    original: Program
    inputs: tuple[str | None, ...]
    fixed: tuple[Any, ...]
    states: tuple[str, ...]
    outputs: tuple[Any, ...]
    in_spec: Any
    out_spec: Any
    weights: Mapping[str, torch.Tensor]
    reasons: Mapping[str, str]
    guard: Guard = field(default_factory=guard)


def trace(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, dynamic_shapes: Any = None
) -> Traced:
    """Traces ``model(*args, **kwargs)``; every dtype and device that torch.export takes.

    Raises :class:`UnsupportedModel` with export's reason when the model cannot be captured as one graph.
    """
    exported = capture(model, args, dict(kwargs or {}), dynamic_shapes)
    return translate_exported(exported, type(model).__name__)


def translate_exported(exported: ExportedProgram, name: str) -> Traced:
    """An exported program (functional, ATen) as :class:`Traced`."""
    translation = Translation(Builder(), Symbols(), {})
    placeholders = [n for n in exported.graph.nodes if n.op == "placeholder"]
    mutated = {s.target for s in exported.graph_signature.output_specs if s.kind is OutputKind.BUFFER_MUTATION}
    state_values = {**exported.state_dict, **exported.constants}
    given = _Given()
    env: dict[Any, Any] = {}
    for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True):
        if spec.kind in _WEIGHTS:
            env[node] = given.weight(spec.target, state_values[spec.target], spec.target in mutated, translation)
        elif spec.kind is InputKind.USER_INPUT:
            env[node] = given.user_input(node, spec, translation)
        else:
            raise UnsupportedModel(f"input {node.name} is of kind {spec.kind.name}, which tpopt does not take")
    result = translation.run(exported.graph, env, _submodules(exported))
    return _assemble(name, exported, translation, result, given)


@dataclass
class _Given:
    """What the graph's placeholders stand for."""

    user: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    states: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    described: list[tuple[str | None, Any]] = field(default_factory=list)

    def weight(self, target: str, real: torch.Tensor, is_state: bool, translation: Translation) -> Tensor:
        """A parameter, buffer or constant; a buffer that the model updates is a state."""
        name = translation.builder.name(_clean(target))
        tensor = Tensor(name, tuple(real.shape), from_torch_dtype(real.dtype))
        self.values[name] = real
        translation.origins[name] = Origin((target,))
        if is_state:
            self.states[target] = tensor
        else:
            self.weights.append(tensor)
            translation.constants[name] = to_numpy(real)
        return tensor

    def user_input(self, node: Any, spec: Any, translation: Translation) -> Any:
        """A tensor of the user, or the plain value that the graph was specialised on."""
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            shape = translation.symbols.shape(value)
            tensor = Tensor(translation.builder.name(node.name), shape, from_torch_dtype(value.dtype))
            self.user.append(tensor)
            self.described.append((tensor.name, None))
            return tensor
        if isinstance(value, torch.SymInt):
            raise UnsupportedModel(f"input {node.name} is a dynamic integer; pass it as a tensor or make it static")
        fixed = value if value is not None else getattr(spec.arg, "value", None)
        self.described.append((None, fixed))
        return fixed


def _assemble(
    name: str, exported: ExportedProgram, translation: Translation, result: Sequence[Any], given: _Given
) -> Traced:
    specs = exported.graph_signature.output_specs
    leaves = [v for v, s in zip(result, specs, strict=True) if s.kind is _USER_OUTPUT]
    outputs = [v for v in leaves if isinstance(v, Tensor)]
    aliases: list[Alias] = []
    for value, spec in zip(result, specs, strict=True):
        if spec.kind is OutputKind.BUFFER_MUTATION:
            aliases.append(Alias(len(outputs), given.states[str(spec.target)].name))
        elif spec.kind is OutputKind.USER_INPUT_MUTATION:
            aliases.append(Alias(len(outputs), str(spec.target)))
        elif spec.kind is _USER_OUTPUT:
            continue
        else:
            raise UnsupportedModel(f"output of kind {spec.kind.name} has no meaning for inference")
        outputs.append(value)
    stages = tuple(translation.builder.stages)
    read = {*outputs, *(t for stage in stages for t in stage_reads(stage))} if translation.own.all else set()
    own = tuple(t for t in translation.own.all if t in read)
    common: dict[str, Any] = {
        "name": _clean(name) or "model",
        "inputs": (*given.user, *given.states.values()),
        "weights": (*given.weights, *own),
        "outputs": tuple(outputs),
        "aliases": tuple(aliases),
        "symbols": translation.symbols.all,
        "constants": translation.constants,
        "origins": translation.origins,
    }
    return Traced(
        algebra=Program(stages=stages, **common).validate(),
        original=Program(stages=tuple(translation.originals), **common).validate(),
        inputs=tuple(n for n, _ in given.described),
        fixed=tuple(v for _, v in given.described),
        states=tuple(t.name for t in given.states.values()),
        outputs=tuple(leaves),
        in_spec=exported.call_spec.in_spec,
        out_spec=exported.call_spec.out_spec,
        weights=given.values,
        reasons=translation.reasons,
        guard=shape_guard(exported, translation.symbols),
    )


def _submodules(exported: ExportedProgram) -> dict[str, Any]:
    return dict(exported.graph_module.named_children())


def _clean(name: str) -> str:
    cleaned = "".join(c if c.isalnum() or c in "_." else "_" for c in name)
    return cleaned if cleaned[:1].isalpha() or cleaned[:1] == "_" else f"_{cleaned}"
