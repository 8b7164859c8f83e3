"""What a program under evaluation knows: arrays by name, symbol values, the number system, and facts worth keeping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tpopt.errors import UnsupportedInput
from tpopt.ir.interpret.arithmetic import Arithmetic
from tpopt.ir.interpret.pointwise import Scope
from tpopt.ir.interpret.space import Box
from tpopt.ir.interpret.terms import StageTerms
from tpopt.ir.program import Array, Program
from tpopt.ir.stages import Compute, Opaque, Scatter, Stage
from tpopt.ir.terms import Tensor

OpaqueHook: TypeAlias = Callable[[Opaque, list[Array]], tuple[Array, ...]]
StageHook: TypeAlias = Callable[[Stage, tuple[Array, ...]], None]
WeightSource: TypeAlias = Callable[[Program, Tensor], Array]


@dataclass(frozen=True)
class State:
    """Evaluation state of one program; bodies of scans and conditionals get their own with the same settings."""

    arithmetic: Arithmetic
    weights: WeightSource
    opaque: OpaqueHook | None
    symbols: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)
    facts: dict[Stage, StageTerms] = field(default_factory=dict)  # shared by every state of one evaluation

    def nested(self, tensors: Mapping[str, Array], **symbols: int) -> State:
        """A state for a body: its own tensors, this state's symbols and some more."""
        known = {**self.symbols, **symbols}
        return State(self.arithmetic, self.weights, self.opaque, known, dict(tensors), self.facts)

    def terms(self, stage: Compute | Scatter) -> StageTerms:
        """Facts about a stage's terms, found once."""
        if stage not in self.facts:
            if isinstance(stage, Compute):
                self.facts[stage] = StageTerms(name_of(stage), stage.loops, stage.bodies)
            else:
                self.facts[stage] = StageTerms(name_of(stage), stage.loops, (stage.value,), stage.at, stage.guard)
        return self.facts[stage]

    def scope(self, terms: StageTerms, box: Box) -> Scope:
        return Scope(terms, box, self.tensors, self.symbols, self.arithmetic)

    def array(self, tensor: Tensor) -> Array:
        """The value of a tensor. Raises :class:`UnsupportedInput` when nothing has defined it."""
        if tensor.name not in self.tensors:
            raise UnsupportedInput(f"tensor {tensor.name} has no value: no input, weight or earlier stage defines it")
        return self.tensors[tensor.name].astype(self.arithmetic.storage(tensor.dtype), copy=False)


def name_of(stage: Stage) -> str:
    """A stage's outputs, as messages call it."""
    return ", ".join(o.name for o in stage.outs)
