"""Merge contractions that share an operand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar

from tpopt.ir import (
    DENSE,
    Builder,
    Compute,
    Iter,
    Program,
    Read,
    Reduce,
    Scalar,
    Stage,
    Tensor,
    guard,
    index,
    iters,
    select,
)
from tpopt.ir.index import walk_atoms
from tpopt.ir.walk import map_tensors, own_indices, postorder, rename_bound
from tpopt.passes.fold_constants import MAX_BYTES
from tpopt.rewrite import Numerics, Pass, Trace
from tpopt.rewrite.contraction import axis_of, contraction
from tpopt.rewrite.stages import moved


@dataclass(frozen=True)
class MergeSharedGemms(Pass):
    """Replaces contractions of one operand with several weights by one with the weights joined, and slices of it.

    Two stages merge when they are equal but for their weights and the extent of one loop, which runs over an axis of
    each weight and over nothing else: the query, key and value of an attention, convolutions of equal geometry. The
    parts keep their names; ``inline-views`` composes them into their readers, ``fold-constants`` joins the weights.
    Numerics: reassociating (each element is the same sum in the same order, but a library may block the wider product
    in another way).

    Given::

        q: f32[9,8] = L[i0:9,i1:8] sum[k:16]{ x[i0,k] * a[i1,k] }
        v: f32[9,4] = L[i0:9,i1:4] sum[k:16]{ x[i0,k] * b[i1,k] }

    Result::

        q.merged.weight: f32[12,16] = L[i0:12,i1:16] select(0 <= i0 < 8, a[i0,i1], b[i0-8,i1])
        q.merged: f32[9,12] = L[i0:9,i1:12] sum[k:16]{ x[i0,k] * q.merged.weight[i1,k] }
        q: f32[9,8] = L[i0:9,i1:8] q.merged[i0,i1]
        v: f32[9,4] = L[i0:9,i1:4] q.merged[i0,i1+8]

    ``max_bytes`` bounds a joined weight.
    """

    name: ClassVar[str] = "merge-shared-gemms"
    numerics: ClassVar[Numerics] = Numerics.REASSOCIATING
    bargain: ClassVar[bool] = True
    max_bytes: int = MAX_BYTES

    def run(self, program: Program, trace: Trace) -> Program:
        merger = _Merger(self, program, trace, Builder(program.tensors))
        groups = merger.groups()
        if not groups:
            return program
        leaders = {group[0].stage: group for group in groups}
        parts: dict[Stage, Compute] = {}
        for stage in program.stages:
            if stage in leaders:
                parts.update(merger.merge(leaders[stage]))
            merger.builder.add(parts.get(stage, stage))
        return program.with_stages(tuple(merger.builder.stages))


@dataclass(frozen=True)
class _Member:
    """A contraction whose loop number ``axis`` runs over ``weights`` alone; a group's members share the ``key``."""

    stage: Compute
    axis: int
    weights: tuple[Tensor, ...]
    axes: tuple[int, ...]  # the weights' axes that the loop runs over
    key: Compute

    @property
    def out(self) -> Tensor:
        return self.stage.outs[0]

    @property
    def loop(self) -> Iter:
        return self.stage.loops[self.axis]

    @property
    def extent(self) -> int:
        assert isinstance(self.loop.extent, int)
        return self.loop.extent


@dataclass
class _Merger:
    options: MergeSharedGemms
    program: Program
    trace: Trace
    builder: Builder
    weights: set[Tensor] = field(default_factory=set)

    def __post_init__(self) -> None:
        overwritten = {a.target for a in self.program.aliases}
        self.weights = {w for w in self.program.weights if w.name not in overwritten and w.structure is DENSE}

    def groups(self) -> list[list[_Member]]:
        """Members to merge, in program order; alone, a stage is no group."""
        found: dict[Compute, list[_Member]] = {}
        for stage in self.program.stages:
            member = self._member(stage) if isinstance(stage, Compute) and contraction(stage) else None
            if member is not None:
                found.setdefault(member.key, []).append(member)
        admitted = [self._admitted(group) for group in found.values() if len(group) > 1]
        return [group for group in admitted if len(group) > 1]

    def _admitted(self, group: Sequence[_Member]) -> list[_Member]:
        kept: list[_Member] = []
        for member in group:
            reason = self._obstacle(member)
            if reason:
                self.trace.refused("JoinWeights", reason, [member.out.name])
            else:
                kept.append(member)
        total = max((sum(_bytes(m.weights[n]) for m in kept) for n in range(len(group[0].weights))), default=0)
        if total > self.options.max_bytes and len(kept) > 1:
            reason = f"the joined weight takes {total} bytes, more than max_bytes={self.options.max_bytes}"
            self.trace.refused("JoinWeights", reason, [m.out.name for m in kept])
            return []
        return kept

    def _obstacle(self, member: _Member) -> str:
        if member.out in self.program.outputs:
            return "the product is an output of the program: its slice would be a copy"
        shared = any(len(self.program.consumers[w]) > 1 or w in self.program.outputs for w in member.weights)
        return "a weight has other readers: joining would store it twice" if shared else ""

    def _member(self, stage: Compute) -> _Member | None:
        """The stage with the loop along which it can be joined to others, if there is one."""
        terms = postorder(stage.bodies[0])
        summed = {t for r in terms if isinstance(r, Reduce) for t in postorder(*r.bodies)}
        for axis, loop in enumerate(stage.loops):
            using = [t for t in terms if any(loop in walk_atoms(i) for i in own_indices(t))]
            reads = [t for t in using if isinstance(t, Read) and self._along(t, loop)]
            if reads and len(reads) == len(using) and any(r in summed for r in reads) and isinstance(loop.extent, int):
                places = {r.tensor: axis_of(r, loop) for r in reads}
                if len(places) == len(reads):
                    axes = tuple(a for a in places.values() if a is not None)
                    return _Member(stage, axis, tuple(places), axes, _key(stage, axis, tuple(places), axes))
        return None

    def _along(self, read: Read, loop: Iter) -> bool:
        """Whether a weight is read with a loop running over one of its axes, and over no other."""
        uses = [where for where in read.indices if loop in walk_atoms(where)]
        return read.tensor in self.weights and len(uses) == 1 and axis_of(read, loop) is not None

    def merge(self, group: Sequence[_Member]) -> dict[Stage, Compute]:
        """Emits the joined weights and the merged contraction; returns the slice that each member becomes."""
        first = group[0]
        name = self.builder.name(f"{first.out.name}.merged")
        joined = {
            weight: self._joined(f"{name}.{_role(first, weight)}", [m.weights[n] for m in group], first.axes[n])
            for n, weight in enumerate(first.weights)
        }
        wide = Iter(first.loop.name, sum(m.extent for m in group))
        loops = tuple(wide if l is first.loop else l for l in first.stage.loops)
        body = map_tensors(moved(first.stage.bodies[0], [first.loop], [wide]), lambda t: joined.get(t, t))
        out = Tensor(name, tuple(l.extent for l in loops), first.out.dtype)
        self.builder.add(Compute((out,), loops, (body,)))
        self.trace.applied("JoinWeights", [m.out.name for m in group], name, Numerics.REASSOCIATING)
        parts: dict[Stage, Compute] = {}
        start = 0
        for member in group:
            where = [l + start if a == member.axis else index(l) for a, l in enumerate(member.stage.loops)]
            parts[member.stage] = Compute((member.out,), member.stage.loops, (out.at(where),))
            start += member.extent
        return parts

    def _joined(self, name: str, weights: Sequence[Tensor], axis: int) -> Tensor:
        """A stage that lays tensors one after the other along an axis."""
        extents = [w.shape[axis] for w in weights]
        total = sum(e for e in extents if isinstance(e, int))
        shape = tuple(total if a == axis else e for a, e in enumerate(weights[0].shape))
        loops = iters("i", shape)
        end, body = index(total), None
        for weight, extent in zip(reversed(weights), reversed(extents), strict=True):
            start = end - extent
            part: Scalar = weight.at([l - start if a == axis else index(l) for a, l in enumerate(loops)])
            body = part if body is None else select(guard((start, loops[axis], end)), part, body)
            end = start
        assert body is not None
        out = Tensor(self.builder.name(name), shape, weights[0].dtype)
        self.builder.add(Compute((out,), loops, (body,)))
        return out


def _key(stage: Compute, axis: int, weights: tuple[Tensor, ...], axes: tuple[int, ...]) -> Compute:
    """The stage with neutral names and without the extent of the joined loop: equal for all that can be merged."""
    loops = tuple(Iter(f"=i{n}", 1 if n == axis else l.extent) for n, l in enumerate(stage.loops))
    bound = dict.fromkeys(i for t in postorder(stage.bodies[0]) if isinstance(t, Reduce) for i in t.iters)
    body = rename_bound(
        moved(stage.bodies[0], stage.loops, loops), {i: Iter(f"=r{n}", i.extent) for n, i in enumerate(bound)}
    )
    marks = {
        w: replace(w, name=f"=w{n}.{a}", shape=tuple(1 if k == a else e for k, e in enumerate(w.shape)))
        for n, (w, a) in enumerate(zip(weights, axes, strict=True))
    }
    out = Tensor("=", tuple(l.extent for l in loops), stage.outs[0].dtype)
    return Compute((out,), loops, (map_tensors(body, lambda t: marks.get(t, t)),))


def _role(member: _Member, weight: Tensor) -> str:
    """``weight`` for what is multiplied, ``bias`` for what stands outside the sum."""
    terms = [t for t in postorder(member.stage.bodies[0]) if isinstance(t, Reduce)]
    inside = {t.tensor for r in terms for t in postorder(*r.bodies) if isinstance(t, Read)}
    return "weight" if weight in inside else "bias"


def _bytes(tensor: Tensor) -> int:
    return prod(e for e in tensor.shape if isinstance(e, int)) * tensor.dtype.itemsize
