"""Transposed convolutions as plain ones: the phases of a result are channels of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import ClassVar

from tpopt.ir import Builder, Compute, FloorDiv, Index, Iter, Program, index, total
from tpopt.ir.index import Atom, IndexLike, substitute, walk_atoms
from tpopt.ir.walk import rebuild, substitute_iters
from tpopt.passes.derive.slides import Slide, SlidingSum, computed, count_of, indices_in, inside, sliding_sum
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.stages import constant_tensors


@dataclass(frozen=True)
class Joined:
    """Stages in place of one: the weight of all phases, the plain sliding sum, and the result read from it.

    A place has ``results``, and had ``before``.
    """

    weight: Compute
    sums: Compute
    root: Compute
    before: int
    results: int

    @property
    def stages(self) -> tuple[Compute, ...]:
        """All of them, in order."""
        return self.weight, self.sums, self.root


class JoinPhases:
    """Replaces a sum whose taps depend on the phase of its result with one that computes all phases of a place at once.

    A transposed convolution of stride ``d`` reads the same data for ``d`` neighbouring results, with other taps of the
    weight for each. They become channels, which there may be too few of otherwise: a plain convolution computes
    them, and the result is read from it place by place. At the borders some phases are computed in vain. Numerics:
    exact. Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016).

    Given::

        y: f32[2,8] = L[k:2,h:8] sum[c:9,r:2]{ select(0 <= (h+1)//2-r < 4, x[c,(h+1)//2-r], 0.0) * w[c,k,(h+1)%2+2*r] }

    Result::

        y.phases.weight: f32[4,9,2] = L[k:4,c:9,r:2] w[c,k//2,k%2+2*(1-r)]
        y.phases: f32[4,5] = L[k:4,u:5] sum[c:9,r:2]{ select(1 <= u+r < 5, x[c,u+r-1], 0.0) * y.phases.weight[k,c,r] }
        y: f32[2,8] = L[k:2,h:8] y.phases[2*k+(h+1)%2,(h+1)//2]
    """

    name: ClassVar[str] = "JoinPhases"
    numerics: ClassVar[Numerics] = Numerics.EXACT

    def run(self, program: Program, stage: Compute, builder: Builder) -> Joined | Refusal:
        """The stages that take the place of one, or why there are none."""
        found = sliding_sum(stage, frozenset(constant_tensors(program)))
        if isinstance(found, Refusal):
            return found
        phased = [s for s in found.slides if s.phases > 1 and s.weighted]
        if not phased:
            return Refusal("every result reads the same taps")
        axes = [_axis(s, found, number) for number, s in enumerate(phased)]
        if any(a is None for a in axes):
            return Refusal("the phases of a place read other data")
        return _written(found, [a for a in axes if a is not None], builder)


@dataclass(frozen=True)
class _Axis:
    """A loop in phases: ``loop = phases * place + phase - shift``, where all phases of a place read the same data."""

    slide: Slide
    place: Iter
    phase: Iter
    shift: int

    @property
    def position(self) -> Index:
        """The loop's value."""
        return self.slide.phases * index(self.place) + self.phase - self.shift


def _axis(slide: Slide, found: SlidingSum, number: int) -> _Axis | None:
    divided = (
        a for i in indices_in(found.data) for a in walk_atoms(i)
        if isinstance(a, FloorDiv) and slide.loop in walk_atoms(a.numerator)
    )  # fmt: skip
    for shift in dict.fromkeys((a.numerator - slide.loop).constant for a in divided):
        if shift is None:
            continue
        own = shift % slide.phases
        place, phase = Iter(f"u{number}", ceil((slide.extent + own) / slide.phases)), Iter(f"p{number}", slide.phases)
        axis = _Axis(slide, place, phase, own)
        parts: dict[Atom, IndexLike] = {slide.loop: axis.position}
        if not any(phase in walk_atoms(substitute(i, parts)) for i in indices_in(found.data)):
            return axis
    return None


def _written(found: SlidingSum, axes: list[_Axis], builder: Builder) -> Joined:
    stage, own = found.stage, found.own
    base = f"{stage.outs[0].name}.phases"
    phases = [a.phase for a in axes]
    channel = Iter(own[0].name if own else "k", count_of((*own, *phases)))
    parts: dict[Atom, IndexLike] = dict(zip((*own, *phases), _parts(channel, (*own, *phases)), strict=True))
    taps: dict[Atom, IndexLike] = {s.tap: s.tap_at(s.tap) for s in found.slides}
    places: dict[Atom, IndexLike] = {a.slide.loop: a.position for a in axes}
    values: dict[Atom, IndexLike] = {**parts, **{a.place: 0 for a in axes}}
    mapping: dict[Atom, IndexLike] = {loop: substitute(index(where), values) for loop, where in places.items()}
    weight_loops = (channel, *found.summed, *(s.tap for s in found.slides))
    value = substitute_iters(found.weight, {**taps, **mapping, **{i: parts[i] for i in own}})
    weight = computed(builder, f"{base}.weight", weight_loops, value)
    loops = _loops(stage, own, channel, axes)
    data = inside(substitute_iters(found.data, {**taps, **places}))
    product = data * weight.outs[0].at(weight_loops)
    sums = computed(builder, base, loops, total((*found.summed, *(s.tap for s in found.slides)), product))
    where: dict[Iter, Index] = {channel: index(0)}
    for iterator in (*own, *phases):
        axis = next((a for a in axes if a.phase is iterator), None)
        part = index(iterator) if axis is None else (axis.slide.loop + axis.shift) % axis.slide.phases
        where[channel] = where[channel] * iterator.extent + part
    where |= {a.place: (a.slide.loop + a.shift) // a.slide.phases for a in axes}
    read = sums.outs[0].at([where.get(i, index(i)) for i in loops])
    body = rebuild(stage.bodies[0], lambda t: read if t is found.pivot else t)
    root = Compute(stage.outs, stage.loops, (body,))
    return Joined(weight, sums, root, count_of(own), count_of((channel,)))


def _loops(stage: Compute, own: tuple[Iter, ...], channel: Iter, axes: list[_Axis]) -> tuple[Iter, ...]:
    """The loops of the plain sum: channels where the weight's loops were, or before the first axis in phases."""
    places = {a.slide.loop: a.place for a in axes}
    first = own[0] if own else next(i for i in stage.loops if i in places)
    found: list[Iter] = []
    for loop in stage.loops:
        if loop is first:
            found.append(channel)
        if loop not in own:
            found.append(places.get(loop, loop))
    return tuple(found)


def _parts(channel: Iter, iters: tuple[Iter, ...]) -> list[Index]:
    """The values of several iterators that one runs through, the last one fastest."""
    found: list[Index] = []
    for number, iterator in enumerate(iters):
        inner = prod(count_of((i,)) for i in iters[number + 1 :])
        where = index(channel) // inner
        found.append(where if number == 0 else where % iterator.extent)
    return found
