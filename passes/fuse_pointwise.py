"""Compute a pointwise result where it is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from tpopt.ir import Compute, Program, Read, Reduce, Scalar, Stage, Tensor
from tpopt.ir.walk import postorder, rebuild, stage_reads, tensors_of_indices
from tpopt.rewrite import Numerics, Pass, Refusal, Trace
from tpopt.rewrite.contraction import read_once
from tpopt.rewrite.stages import moved, term_indices, without_unread


@dataclass(frozen=True)
class FusePointwise(Pass):
    """Replaces the one read of a pointwise stage with its body when no element is read twice.

    The result is not stored, and nothing is computed twice: the read must visit each element of the tensor at most
    once, in one stage. What a library call would cover is better left apart, so the cleanup pipelines do without this
    pass. A stage grows to at most ``max_terms`` terms. Numerics: exact.

    Given::

        a: f32[9] = L[i0:9] exp(x[i0])
        y: f32[9] = L[i0:9] a[i0] + z[i0]

    Result::

        y: f32[9] = L[i0:9] exp(x[i0]) + z[i0]
    """

    name: ClassVar[str] = "fuse-pointwise"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    max_terms: int = 256

    def run(self, program: Program, trace: Trace) -> Program:
        fuser = _Fuser(self, program, trace)
        stages = without_unread([fuser.visit(s) for s in program.stages], fuser.fused, program.outputs)
        return program if stages == program.stages else program.with_stages(stages)


@dataclass
class _Fuser:
    options: FusePointwise
    program: Program
    trace: Trace
    pointwise: dict[Tensor, Compute] = field(default_factory=dict)
    fused: dict[Tensor, None] = field(default_factory=dict)

    def visit(self, stage: Stage) -> Stage:
        if not isinstance(stage, Compute):
            return stage
        for source in [t for t in stage_reads(stage) if t in self.pointwise]:
            refusal = self._obstacle(stage, source)
            names = [source.name, *(o.name for o in stage.outs)]
            if refusal is not None:
                self.trace.refused("ComposePointwise", refusal, names)
                continue
            self.trace.applied("ComposePointwise", names)
            self.fused[source] = None
            stage = _composed(stage, self.pointwise[source])
        if len(stage.outs) == 1 and not any(isinstance(t, Reduce) for t in postorder(stage.bodies[0])):
            self.pointwise[stage.outs[0]] = stage
        return stage

    def _obstacle(self, stage: Compute, source: Tensor) -> Refusal | None:
        if source in self.program.outputs:
            return Refusal("the source is an output of the program")
        if len(self.program.consumers[source]) > 1:
            return Refusal("the source has other readers")
        terms = postorder(*stage.bodies)
        reads = [t for t in terms if isinstance(t, Read) and t.tensor is source]
        if len(reads) != 1 or source in tensors_of_indices(term_indices(*stage.bodies)):
            return Refusal("the source is read more than once")
        around = {(t.monoid, t.iters, t.bodies): t for t in terms if isinstance(t, Reduce) and reads[0] in postorder(t)}
        if len(around) > 1:
            return Refusal("the source is read in more than one reduction")
        scope = [*stage.loops, *(i for t in around.values() for i in t.iters)]
        if read_once(reads[0], scope) is None:
            return Refusal("the source is read more than once for an element")
        if len(terms) + len(postorder(self.pointwise[source].bodies[0])) > self.options.max_terms:
            return Refusal(f"the stage would have more than max_terms={self.options.max_terms} terms")
        return None


def _composed(reader: Compute, source: Compute) -> Compute:
    out, body = source.outs[0], source.bodies[0]

    def one(term: Scalar) -> Scalar:
        if isinstance(term, Read) and term.tensor is out:
            return moved(body, source.loops, term.indices)
        return term

    return replace(reader, bodies=tuple(rebuild(b, one) for b in reader.bodies))
