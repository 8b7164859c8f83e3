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
from tpopt.ir.stages import Compute, Opaque, Scatter, Stage, TopK
from tpopt.ir.terms import Tensor
from tpopt.ir.walk import stage_reads

OpaqueHook: TypeAlias = Callable[[Opaque, list[Array]], tuple[Array, ...]]
TopHook: TypeAlias = Callable[[TopK, Array, int], Array]
StageHook: TypeAlias = Callable[[Stage, tuple[Array, ...]], None]
WeightSource: TypeAlias = Callable[[Program, Tensor], Array]


@dataclass(frozen=True)
class Uses:
    """For each stage of a program, the weights it reads and the names that no later stage needs."""

    weights: tuple[tuple[Tensor, ...], ...]
    ended: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Facts:
    """What is found out once about stages and programs, for every state of one evaluation."""

    terms: dict[Stage, StageTerms] = field(default_factory=dict)
    uses: dict[tuple[Program, tuple[str, ...]], Uses] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Evaluation state of one program; bodies of scans and conditionals get their own with the same settings."""

    arithmetic: Arithmetic
    weights: WeightSource
    opaque: OpaqueHook | None
    top: TopHook | None = None
    symbols: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, Array] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)

    def nested(self, tensors: Mapping[str, Array], **symbols: int) -> State:
        """A state for a body: its own tensors, this state's symbols and some more."""
        known = {**self.symbols, **symbols}
        return State(self.arithmetic, self.weights, self.opaque, self.top, known, dict(tensors), self.facts)

    def terms(self, stage: Compute | Scatter) -> StageTerms:
        """Facts about a stage's terms, found once."""
        known = self.facts.terms
        if stage not in known:
            if isinstance(stage, Compute):
                known[stage] = StageTerms(name_of(stage), stage.loops, stage.bodies)
            else:
                known[stage] = StageTerms(name_of(stage), stage.loops, (stage.value,), stage.at, stage.guard)
        return known[stage]

    def uses(self, program: Program, wanted: tuple[str, ...]) -> Uses:
        """What each stage needs and ends, when the tensors named in ``wanted`` outlive the program."""
        key = (program, wanted)
        if key not in self.facts.uses:
            self.facts.uses[key] = _uses(program, wanted)
        return self.facts.uses[key]

    def scope(self, terms: StageTerms, box: Box) -> Scope:
        return Scope(terms, box, self.tensors, self.symbols, self.arithmetic)

    def array(self, tensor: Tensor) -> Array:
        """The value of a tensor. Raises :class:`UnsupportedInput` when nothing has defined it."""
        if tensor.name not in self.tensors:
            raise UnsupportedInput(f"tensor {tensor.name} has no value: no input, weight or earlier stage defines it")
        return self.tensors[tensor.name].astype(self.arithmetic.storage(tensor.dtype), copy=False)


def _uses(program: Program, wanted: tuple[str, ...]) -> Uses:
    reads, owned = [stage_reads(s) for s in program.stages], dict.fromkeys(program.weights)
    last: dict[str, int] = {}
    for number, stage in enumerate(program.stages):
        for tensor in (*stage.outs, *reads[number]):
            last[tensor.name] = number
    ended: list[list[str]] = [[] for _ in program.stages]
    for name, number in last.items():
        if name not in wanted:
            ended[number].append(name)
    return Uses(tuple(tuple(t for t in r if t in owned) for r in reads), tuple(map(tuple, ended)))


def name_of(stage: Stage) -> str:
    """A stage's outputs, as messages call it."""
    return ", ".join(o.name for o in stage.outs)
