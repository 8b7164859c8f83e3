"""Drop what no output depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from tpopt.ir import Compute, Program, Stage, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.rewrite import Numerics, Pass, Trace
from tpopt.rewrite.stages import map_nested, needed_stages


@dataclass(frozen=True)
class DeadCode(Pass):
    """Drops stages, outputs of stages, and weights (with their values) that no output of the program depends on.

    Inputs stay, and so do stages with effects and weights that an alias overwrites. Of a Compute with several outputs
    the unread ones are dropped; other stages are kept or dropped whole. Numerics: exact.

    Given::

        a: f32[8], b: f32[8] = L[i0:8] exp(x[i0]), log(x[i0])
        c: f32[8] = L[i0:8] b[i0]
        return a

    Result::

        a: f32[8] = L[i0:8] exp(x[i0])
        return a
    """

    name: ClassVar[str] = "dead-code"
    numerics: ClassVar[Numerics] = Numerics.EXACT

    def run(self, program: Program, trace: Trace) -> Program:
        program = map_nested(program, lambda body: self.run(body, trace))
        stages = needed_stages(program)
        kept = set(stages)
        for stage in program.stages:
            if stage not in kept:
                trace.applied("DropStage", [o.name for o in stage.outs])
        live = {*program.outputs, *(t for s in stages for t in stage_reads(s))}
        stages = tuple(_trimmed(s, live, trace) for s in stages)
        overwritten = {a.target for a in program.aliases}
        weights = tuple(w for w in program.weights if w in live or w.name in overwritten)
        for weight in program.weights:
            if weight not in live and weight.name not in overwritten:
                trace.applied("DropWeight", [weight.name])
        if stages == program.stages and weights == program.weights:
            return program
        names = {t.name for t in (*program.inputs, *weights)} | {o.name for s in stages for o in s.outs}
        dropped = {w.name for w in program.weights} - names
        constants = _without(program.constants, dropped)
        return program.with_stages(stages, weights=weights, constants=constants)


def _trimmed(stage: Stage, live: set[Tensor], trace: Trace) -> Stage:
    """A Compute without the outputs that nobody reads."""
    if not isinstance(stage, Compute) or all(o in live for o in stage.outs):
        return stage
    kept = [(o, b) for o, b in zip(stage.outs, stage.bodies, strict=True) if o in live]
    trace.applied("DropOutput", [o.name for o in stage.outs if o not in live])
    return Compute(tuple(o for o, _ in kept), stage.loops, tuple(b for _, b in kept))


def _without(values: Mapping[str, Any], names: set[str]) -> Mapping[str, Any]:
    return MappingProxyType({n: v for n, v in values.items() if n not in names})
