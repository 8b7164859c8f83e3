"""Steps of several elements along an axis: the axis in phases, each a problem of its own without steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, prod

from tpopt.ir import (
    Bound,
    Builder,
    Compute,
    Guard,
    Index,
    Iter,
    Program,
    Read,
    Scalar,
    Select,
    Size,
    Tensor,
    guard,
    index,
    postorder,
    select,
)
from tpopt.ir.index import substitute, walk_atoms
from tpopt.ir.walk import own_indices, rebuild
from tpopt.rewrite import Numerics, Refusal

Axes = dict[int, int]
"""Which axes of a tensor are split, into how many phases."""


@dataclass
class Component:
    """Stages that hand an axis on from one to the next; ``axes`` says how each of their tensors is split.

    ``entries`` are tensors made elsewhere, ``result`` the one that stages outside read.
    """

    stages: list[Compute] = field(default_factory=list)
    axes: dict[Tensor, Axes] = field(default_factory=dict)
    entries: list[Tensor] = field(default_factory=list)
    result: Tensor | None = None


class SplitPhases:
    """Replaces what reads every d-th element with d problems without steps, side by side along the batch axis.

    A convolution of dilation d, or scores of every d-th neighbour, never mixes elements whose places differ by other
    than a multiple of d. So the axis is split into phases, which join the batch; the guards of each read come along.
    Whatever hands the axis on (an activation, another such layer) works on phases as well: one permutation goes in and
    one comes out, however many layers lie between. The extent must be a multiple of d. Numerics: exact.

    Given::

        y: f32[1,8] = L[n:1,h:8] sum[r:3]{ select(2 <= h+2*r < 10, x[n,h+2*r-2], 0.0) * w[r] }
        z: f32[1,8] = L[n:1,h:8] max(y[n,h], 0.0)

    Result::

        x.phases: f32[2,4] = L[b:2,q:4] x[0,2*q+b]
        y.phases: f32[2,4] = L[b:2,q:4] sum[r:3]{ select(1 <= q+r < 5, x.phases[b,q+r-1], 0.0) * w[r] }
        z.phases: f32[2,4] = L[b:2,q:4] max(y.phases[b,q], 0.0)
        z: f32[1,8] = L[n:1,h:8] z.phases[h%2,h//2]
    """

    name = "SplitPhases"
    numerics = Numerics.EXACT

    def run(self, program: Program, component: Component, builder: Builder) -> tuple[Compute, ...] | Refusal:
        """The component's stages in phases, or why it has none."""
        assert component.result is not None
        for tensor, axes in component.axes.items():
            for axis, phases in axes.items():
                extent = tensor.shape[axis]
                if not isinstance(extent, int):
                    return Refusal(f"{tensor.name}: whether {phases} divides its extent {extent} is known at run time")
                if extent % phases:
                    return Refusal(f"{tensor.name}: {phases} phases do not divide its extent {extent}")
        return _Splitter(component, builder).run()


def components(program: Program) -> list[Component]:
    """Chains of stages around reads with a step, each as long as it goes."""
    found: list[Component] = []
    done: set[Tensor] = set()
    for stage in program.stages:
        if not isinstance(stage, Compute) or stage.outs[0] in done:
            continue
        steps = _steps(stage)
        if steps:
            component = _grown(program, stage, steps)
            if component is not None:
                done.update(o for s in component.stages for o in s.outs)
                found.append(component)
    return found


def _steps(stage: Compute) -> Axes:
    """Axes of a stage's result along which it reads with a step, and the step: ``h + 2*r`` has step 2 along ``h``."""
    found: Axes = {}
    for term in postorder(*stage.bodies):
        if not isinstance(term, Read):
            continue
        for where in term.indices:
            for axis, loop in enumerate(stage.loops):
                rest = where - loop
                if where.coefficient(loop).constant != 1 or loop in walk_atoms(rest):
                    continue
                others = [c for c, atoms in rest.terms if atoms]
                step = gcd(*others) if others else 0
                if step > 1:
                    found[axis] = gcd(found.get(axis, 0), step)
    return found


def _grown(program: Program, start: Compute, steps: Axes) -> Component | None:
    """The chain around a stage: its producers and readers as long as they hand the axes on."""
    component = Component()
    component.axes[start.outs[0]] = steps
    pending: list[Tensor] = [start.outs[0]]
    while pending:
        tensor = pending.pop()
        maker = program.producers.get(tensor)
        sources = _sources(maker, component.axes[tensor]) if isinstance(maker, Compute) else None
        if maker is None or sources is None or not isinstance(maker, Compute):
            component.entries.append(tensor)
        else:
            component.stages.append(maker)
            for source, axes in sources.items():
                if component.axes.setdefault(source, axes) != axes:
                    return None
                made = [o for s in component.stages for o in s.outs]
                if source not in (*pending, *component.entries, *made):
                    pending.append(source)
        for reader in program.consumers.get(tensor, ()):
            forward = _handed_on(reader, tensor, component.axes[tensor])
            if forward is not None and reader.outs[0] not in component.axes:
                component.axes[reader.outs[0]] = forward
                pending.append(reader.outs[0])
    component.entries = list(dict.fromkeys(component.entries))
    place = {s: n for n, s in enumerate(program.stages)}
    component.stages = sorted(dict.fromkeys(component.stages), key=place.__getitem__)
    results = {s.outs[0] for s in component.stages}
    leaving = [
        t for t in results
        if t in program.outputs or any(r not in component.stages for r in program.consumers.get(t, ()))
    ]  # fmt: skip
    if len(leaving) != 1 or not any(_steps(s) for s in component.stages):
        return None
    component.result = leaving[0]
    return component


def _sources(stage: Compute, axes: Axes) -> dict[Tensor, Axes] | None:
    """The split that a stage asks of what it reads, when its result is split; ``None`` where it cannot be."""
    if len(stage.outs) != 1 or 0 in axes or isinstance(stage.loops[0].extent, Index):
        return None
    found: dict[Tensor, Axes] = {}
    for term in postorder(*stage.bodies):
        if not isinstance(term, Read):
            loops = [stage.loops[a] for a in axes]
            if not isinstance(term, Select) and any(l in walk_atoms(w) for w in own_indices(term) for l in loops):
                return None
            continue
        own = _asked(term, stage, axes)
        if own is None or (own and found.setdefault(term.tensor, own) != own):
            return None
    return found


def _asked(read: Read, stage: Compute, axes: Axes) -> Axes | None:
    """The split that one read asks of its tensor; ``None`` where it mixes phases or batches."""
    own: Axes = {}
    for place, where in enumerate(read.indices):
        for axis, phases in axes.items():
            loop = stage.loops[axis]
            if loop in walk_atoms(where):
                if not _is_shift(where, loop, phases):
                    return None
                own[place] = phases
    batch = stage.loops[0]
    if not own:
        return None if batch.extent != 1 and any(batch in walk_atoms(w) for w in read.indices) else own
    same = list(own.values()) == [axes[a] for a in axes]
    return own if same and 0 not in own and _is_batch(read.indices[0], batch) else None


def _handed_on(stage: object, tensor: Tensor, axes: Axes) -> Axes | None:
    """The split of a reader's result that follows from the split of what it reads."""
    if not isinstance(stage, Compute) or len(stage.outs) != 1:
        return None
    own: Axes = {}
    for term in postorder(*stage.bodies):
        if isinstance(term, Read) and term.tensor is tensor:
            for place, phases in axes.items():
                loops = [n for n, l in enumerate(stage.loops) if l in walk_atoms(term.indices[place])]
                if len(loops) != 1 or not _is_shift(term.indices[place], stage.loops[loops[0]], phases):
                    return None
                own[loops[0]] = phases
    if len(own) != len(axes):
        return None
    asked = _sources(stage, own)
    return own if asked is not None and asked.get(tensor) == axes else None


def _is_shift(where: Index, loop: Iter, phases: int) -> bool:
    rest = where - loop
    return loop not in walk_atoms(rest) and all(c % phases == 0 for c, _ in rest.terms)


def _is_batch(where: Index, batch: Iter) -> bool:
    return where is index(batch) or (batch.extent == 1 and where.constant == 0)


@dataclass
class _Splitter:
    component: Component
    builder: Builder

    def run(self) -> tuple[Compute, ...]:
        names = {t: self.builder.name(f"{t.name}.phases") for t in self.component.axes}
        self.split = {t: self._split_tensor(t, names[t]) for t in self.component.axes}
        stages = [self._entering(t) for t in self.component.entries]
        stages += [self._stage(s) for s in self.component.stages]
        assert self.component.result is not None
        return (*stages, self._leaving(self.component.result))

    def _split_tensor(self, tensor: Tensor, name: str) -> Tensor:
        axes = self.component.axes[tensor]
        count = prod(axes.values())
        first = tensor.shape[0]
        assert isinstance(first, int)
        shape = tuple(first * count if n == 0 else _part(e, axes.get(n, 1)) for n, e in enumerate(tensor.shape))
        return Tensor(name, shape, tensor.dtype)

    def _entering(self, tensor: Tensor) -> Compute:
        """The permutation that makes phases of a tensor: row-major phases behind the batch."""
        axes, out = self.component.axes[tensor], self.split[tensor]
        loops = tuple(Iter(f"i{n}", e) for n, e in enumerate(out.shape))
        phase = _phases(index(loops[0]), axes)
        whole = {n: axes[n] * loops[n] + phase[n] for n in axes}
        whole[0] = loops[0] // prod(axes.values())
        where = [whole.get(n, index(loops[n])) for n in range(tensor.rank)]
        return Compute((out,), loops, (tensor.at(where),))

    def _leaving(self, tensor: Tensor) -> Compute:
        axes, source = self.component.axes[tensor], self.split[tensor]
        loops = tuple(Iter(f"i{n}", e) for n, e in enumerate(tensor.shape))
        batch = index(loops[0])
        for axis in sorted(axes):
            batch = batch * axes[axis] + loops[axis] % axes[axis]
        where = [batch if n == 0 else loops[n] // axes[n] if n in axes else index(loops[n]) for n in range(tensor.rank)]
        return Compute((tensor,), loops, (source.at(where),))

    def _stage(self, stage: Compute) -> Compute:
        """A stage over phases: each of its loops along a split axis runs over one phase."""
        axes, out = self.component.axes[stage.outs[0]], self.split[stage.outs[0]]
        loops = tuple(Iter(l.name, e) for l, e in zip(stage.loops, out.shape, strict=True))
        inner = {l: loops[n] for n, l in enumerate(stage.loops) if n}
        phases = _phases(index(loops[0]), axes)
        mapping: dict[object, Index] = {l: index(loops[n]) for n, l in enumerate(stage.loops) if n and n not in axes}
        mapping.update({stage.loops[n]: d * loops[n] + phases[n] for n, d in axes.items()})
        mapping[stage.loops[0]] = loops[0] // prod(axes.values())
        split_loops = {stage.loops[n]: (inner[stage.loops[n]], d) for n, d in axes.items()}

        def change(term: Scalar) -> Scalar:
            if isinstance(term, Read):
                return self._read(term, loops[0], split_loops, mapping)
            if isinstance(term, Select):
                return select(_guard(term.guard, split_loops, mapping), term.inside, term.outside)
            return term

        return Compute((out,), loops, (rebuild(stage.bodies[0], change),))

    def _read(
        self, read: Read, batch: Iter, split_loops: Mapping[Iter, tuple[Iter, int]], mapping: Mapping[object, Index]
    ) -> Read:
        axes = self.component.axes.get(read.tensor)
        if axes is None or read.tensor not in self.split:
            return Read(read.tensor, tuple(substitute(w, mapping) for w in read.indices))  # type: ignore[arg-type]
        where: list[Index] = []
        for place, old in enumerate(read.indices):
            if place == 0:
                where.append(index(batch))
            elif place in axes:
                where.append(_within(old, split_loops))
            else:
                where.append(substitute(old, mapping))  # type: ignore[arg-type]
        return Read(self.split[read.tensor], tuple(where))


def _within(where: Index, split_loops: Mapping[Iter, tuple[Iter, int]]) -> Index:
    """``h + 2*r - 2`` in phases of two: ``q + r - 1``."""
    loop = next(a for a in walk_atoms(where) if a in split_loops)
    assert isinstance(loop, Iter)
    inner, phases = split_loops[loop]
    rest = where - loop
    return inner + Index(tuple((c // phases, atoms) for c, atoms in rest.terms))


def _guard(condition: Guard, split_loops: Mapping[Iter, tuple[Iter, int]], mapping: Mapping[object, Index]) -> Guard:
    return guard(*(_bound(b, split_loops, mapping) for b in condition.bounds))


def _bound(
    bound: Bound, split_loops: Mapping[Iter, tuple[Iter, int]], mapping: Mapping[object, Index]
) -> tuple[Index, Index, Index]:
    """A bound in phases: divided where all of it is a multiple of the step, else on the place in the whole axis."""
    held = [a for a in walk_atoms(bound.value) if a in split_loops]
    low, high = bound.low.constant, bound.high.constant
    if len(held) == 1 and isinstance(held[0], Iter) and low is not None and high is not None:
        phases = split_loops[held[0]][1]
        if _is_shift(bound.value, held[0], phases) and low % phases == 0 and high % phases == 0:
            return index(low // phases), _within(bound.value, split_loops), index(high // phases)
    return bound.low, substitute(bound.value, mapping), bound.high  # type: ignore[arg-type]


def _phases(batch: Index, axes: Axes) -> dict[int, Index]:
    """The phase of each split axis, from the place in the batch."""
    found: dict[int, Index] = {}
    rest = batch
    for axis in sorted(axes, reverse=True):
        found[axis] = rest % axes[axis]
        rest = rest // axes[axis]
    return found


def _part(extent: Size, phases: int) -> Size:
    """One phase's share of an extent, which may be known at run time alone where there is one phase."""
    if phases == 1:
        return extent
    assert isinstance(extent, int)
    return extent // phases


def permutations_left(stages: Sequence[Compute]) -> int:
    """Stages that only move elements."""
    return sum(isinstance(s.bodies[0], Read) for s in stages)
