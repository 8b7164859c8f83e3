"""Compute equal things once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from tpopt.ir import Atom, Compute, Cond, Iter, Kernel, Opaque, Program, Reduce, Scan, Stage, Tensor, iters
from tpopt.ir.index import IndexLike
from tpopt.ir.program import Array
from tpopt.ir.walk import map_stage_tensors, postorder, rename_bound, stage_reads, substitute_iters
from tpopt.rewrite import Numerics, Pass, Trace
from tpopt.rewrite.stages import map_nested

SAMPLES = 64
"""Elements of a weight that are looked at before two weights are compared as a whole."""


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Replaces a stage with an earlier one that is equal but for the names of its outputs and iterators.

    Weights with the same values are one. Of several equal tensors a program output keeps its name; a second output
    becomes a copy. Stages with effects, control flow and kernels are never merged. Numerics: exact.

    Given::

        a: f32[8] = L[i0:8] exp(x[i0])
        b: f32[8] = L[n:8] exp(x[n])
        c: f32[8] = L[i0:8] a[i0] + b[i0]

    Result::

        a: f32[8] = L[i0:8] exp(x[i0])
        c: f32[8] = L[i0:8] a[i0] + a[i0]
    """

    name: ClassVar[str] = "common-subexpressions"
    numerics: ClassVar[Numerics] = Numerics.EXACT

    def run(self, program: Program, trace: Trace) -> Program:
        return _Merger(map_nested(program, lambda body: self.run(body, trace)), trace).run()


@dataclass
class _Merger:
    """One run. ``same`` maps a dropped tensor to the one that stands for it, ``renamed`` that one to its final name."""

    program: Program
    trace: Trace
    same: dict[Tensor, Tensor] = field(default_factory=dict)
    renamed: dict[Tensor, Tensor] = field(default_factory=dict)
    lone: dict[object, Stage | None] = field(default_factory=dict)  # by sketch; None once it is among ``known``
    known: dict[Stage, Stage] = field(default_factory=dict)  # by canonical form
    kept: list[Stage] = field(default_factory=list)

    def run(self) -> Program:
        program = self.program
        weights = self._weights()
        for stage in program.stages:
            current = _rename(stage, self.same)
            earlier = self._earlier(current)
            if earlier is None:
                self.kept.append(current)
            else:
                self._merge(current, earlier)
        if not self.same:
            return program
        dropped = {w.name for w in program.weights} - {w.name for w in weights}
        constants = MappingProxyType({n: v for n, v in program.constants.items() if n not in dropped})
        stages = tuple(_rename(s, self.renamed) for s in self.kept)
        return program.with_stages(stages, weights=weights, constants=constants)

    def _earlier(self, stage: Stage) -> Stage | None:
        """A stage before this one that computes the same; the stage itself is remembered."""
        if isinstance(stage, (Scan, Cond, Kernel)) or (isinstance(stage, Opaque) and stage.effectful):
            return None
        sketch = _sketch(stage)
        if sketch not in self.lone:
            self.lone[sketch] = stage
            return None
        first, self.lone[sketch] = self.lone[sketch], None
        if first is not None:
            self.known[_canonical(first)] = first
        found = self.known.setdefault(_canonical(stage), stage)
        return None if found is stage else found

    def _merge(self, stage: Stage, earlier: Stage) -> None:
        """Drops a stage; those of its outputs that must keep their names become names of the earlier one, or copies."""
        for out, old in zip(stage.outs, earlier.outs, strict=True):
            self.same[out] = old
            self.trace.applied("MergeStages", [out.name, old.name], f"{out.name} is {old.name}")
            if out not in self.program.outputs:
                continue
            if self.renamed.get(old, old) in self.program.outputs:
                loops = iters("i", out.shape)
                self.kept.append(Compute((out,), loops, (old.at(loops),)))
            else:
                self.renamed[old] = out

    def _weights(self) -> tuple[Tensor, ...]:
        """Weights without repetitions, which go to ``same``; what an alias overwrites or a caller gets stays."""
        fixed = {a.target for a in self.program.aliases} | {o.name for o in self.program.outputs}
        groups: dict[object, list[Tensor]] = {}
        kept: list[Tensor] = []
        for weight in self.program.weights:
            value = self.program.constants.get(weight.name)
            if value is None or weight.name in fixed:
                kept.append(weight)
                continue
            group = groups.setdefault(_fingerprint(weight, value), [])
            twin = next((t for t in group if _equal(value, self.program.constants[t.name])), None)
            if twin is None:
                group.append(weight)
                kept.append(weight)
            else:
                self.same[weight] = twin
                self.trace.applied("MergeWeights", [weight.name, twin.name], f"{weight.name} is {twin.name}")
        return tuple(kept)


def _fingerprint(weight: Tensor, value: Array) -> object:
    """What equal weights share and most others do not: type, shape, and some elements spread over the array."""
    step = max(1, value.size // SAMPLES)
    sample = np.ascontiguousarray(value.reshape(-1)[::step][:SAMPLES])
    return weight.dtype, weight.shape, weight.layout, weight.structure, sample.tobytes()


def _equal(a: Array, b: Array) -> bool:
    """Whether two arrays of one type are equal byte for byte."""
    if a is b:
        return True
    left, right = (np.ascontiguousarray(v).reshape(-1).view(np.uint8) for v in (a, b))
    return bool(np.array_equal(left, right))


def _sketch(stage: Stage) -> object:
    """What equal stages share, cheap to compute."""
    outs = tuple((o.shape, o.dtype, o.layout, o.structure) for o in stage.outs)
    size = len(postorder(*stage.bodies)) if isinstance(stage, Compute) else 0
    return type(stage).__name__, outs, stage_reads(stage), size


def _canonical(stage: Stage) -> Stage:
    """The stage with neutral names for outputs and iterators: equal stages become one object."""
    outs = {o: replace(o, name=f"={n}") for n, o in enumerate(stage.outs)}
    if not isinstance(stage, Compute):
        return map_stage_tensors(stage, lambda t: outs.get(t, t))
    bound = dict.fromkeys(i for t in postorder(*stage.bodies) if isinstance(t, Reduce) for i in t.iters)
    loops = {old: Iter(f"=i{n}", old.extent) for n, old in enumerate(stage.loops)}
    inner = {old: Iter(f"=r{n}", old.extent) for n, old in enumerate(bound)}
    mapping: dict[Atom, IndexLike] = dict(loops.items())
    bodies = tuple(rename_bound(substitute_iters(b, mapping), inner) for b in stage.bodies)
    return Compute(tuple(outs.values()), tuple(loops.values()), bodies)


def _rename(stage: Stage, names: Mapping[Tensor, Tensor]) -> Stage:
    if not any(t in names for t in (*stage_reads(stage), *stage.outs)):
        return stage
    return map_stage_tensors(stage, lambda t: names.get(t, t))
