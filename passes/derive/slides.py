"""Sliding sums: convolutions of any stride of the result and any dilation, as one loop beside one tap for each axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from tpopt.ir import (
    Builder,
    Compute,
    FloorDiv,
    Index,
    Iter,
    Read,
    Reduce,
    Scalar,
    Select,
    Tensor,
    const,
    guard,
    index,
    postorder,
    select,
)
from tpopt.ir.index import Atom, IndexLike, substitute, walk_atoms
from tpopt.ir.walk import is_literal, own_indices
from tpopt.rewrite import Refusal
from tpopt.rewrite.contraction import contraction


@dataclass(frozen=True)
class Slide:
    """A loop and the tap beside it.

    Where the loop is ``phases * q + phase``, the data is read at ``q + tap``, or at ``q - tap`` where ``step`` is -1;
    the weight is read at the tap and the phase alone. A dilation reads the same weight in all phases, a transposed
    convolution another one in each.
    """

    loop: Iter
    tap: Iter
    phases: int
    step: int
    weighted: bool

    @property
    def taps(self) -> int:
        assert isinstance(self.tap.extent, int)
        return self.tap.extent

    @property
    def extent(self) -> int:
        assert isinstance(self.loop.extent, int)
        return self.loop.extent

    def tap_at(self, place: IndexLike) -> Index:
        """The tap that reads ``place`` elements after the first one that a result reads."""
        return index(place) if self.step > 0 else self.taps - 1 - index(place)


@dataclass(frozen=True)
class SlidingSum:
    """``sum[summed]{ data * weight }`` of a stage, with what it slides along."""

    stage: Compute
    pivot: Reduce
    data: Scalar
    weight: Scalar
    slides: tuple[Slide, ...]
    summed: tuple[Iter, ...]

    @property
    def own(self) -> tuple[Iter, ...]:
        """Loops that the weight depends on, those it slides along apart."""
        used = iters_in(self.weight) - {s.loop for s in self.slides}
        return tuple(i for i in self.stage.loops if i in used)

    @property
    def shared(self) -> tuple[Iter, ...]:
        """Loops that the data alone depends on, those it slides along apart."""
        sliding = {s.loop for s in self.slides}
        return tuple(i for i in self.stage.loops if i not in sliding and i not in self.own)


def iters_in(term: Scalar) -> set[Iter]:
    """All iterators in a term."""
    return {a for t in postorder(term) for i in own_indices(t) for a in walk_atoms(i) if isinstance(a, Iter)}


def sliding_sum(stage: Compute, constants: frozenset[Tensor]) -> SlidingSum | Refusal:
    """The sum of a stage, if it slides along one loop or two."""
    match = contraction(stage)
    if match is None or len(match.factors) != 2:
        return Refusal("it is no sum of products of two factors")
    weights = match.weights(constants)
    if len(weights) != 1:
        return Refusal("one factor has to be a weight")
    ((weight, _),) = weights
    data = match.factors[1] if match.factors[0] is weight else match.factors[0]
    if not is_plain(data):
        return Refusal("the data is not read, with zeros around it")
    if any(not isinstance(i.extent, int) for i in (*stage.loops, *match.summed)):
        return Refusal("a size is known only at run time")
    slides = tuple(s for t in match.summed if (s := _slide(data, weight, stage.loops, t)) is not None and s.taps > 1)
    if not 1 <= len(slides) <= 2 or len({s.loop for s in slides}) < len(slides):
        return Refusal("the data slides along no loop, or along more than two")
    pivot = next(t for t in postorder(*stage.bodies) if isinstance(t, Reduce))
    taps = {s.tap for s in slides}
    summed = tuple(i for i in match.summed if i not in taps)
    found = SlidingSum(stage, pivot, data, weight, slides, summed)
    used = iters_in(data)
    if any(i in used for i in found.own) or any(i not in used or i not in iters_in(weight) for i in summed):
        return Refusal("a loop runs through both factors, or a sum through one")
    return found


def is_plain(data: Scalar) -> bool:
    """Whether a factor is a read, perhaps under guards with zero outside."""
    while isinstance(data, Select) and is_literal(data.outside, 0):
        data = data.inside
    return isinstance(data, Read)


def count_of(iters: Sequence[Iter]) -> int:
    """Points of loops whose extents are numbers."""
    count = 1
    for i in iters:
        assert isinstance(i.extent, int)
        count *= i.extent
    return count


def _slide(data: Scalar, weight: Scalar, loops: Sequence[Iter], tap: Iter) -> Slide | None:
    """The loop that a tap moves along: the data depends on nothing but where the two lead together."""
    if tap not in iters_in(weight):
        return None
    touched = [i for i in indices_in(data) if tap in walk_atoms(i)]
    for loop in loops:
        for phases, step in dict.fromkeys(_steps(touched, loop, tap)):
            number, phase = Iter("q", ceil(_size(loop) / phases)), Iter("p", phases)
            parts: dict[Atom, IndexLike] = {loop: phases * index(number) + phase}
            moved: dict[Atom, IndexLike] = {number: number - step * index(tap)}
            weights = [substitute(i, parts) for i in indices_in(weight)]
            together = [substitute(substitute(i, parts), moved) for i in indices_in(data)]
            if not any(number in walk_atoms(i) for i in weights) and not any(tap in walk_atoms(i) for i in together):
                return Slide(loop, tap, phases, step, any(phase in walk_atoms(i) for i in weights))
    return None


def indices_in(term: Scalar) -> list[Index]:
    """All indices in a term."""
    return [i for t in postorder(term) for i in own_indices(t)]


def _steps(indices: Sequence[Index], loop: Iter, tap: Iter) -> Iterator[tuple[int, int]]:
    """How many phases a loop may have, and which way the tap moves: two in ``h + 2*r``, and in ``(h + 1)//2 - r``."""
    for where in indices:
        along, beside = where.coefficient(tap).constant, where.coefficient(loop).constant
        if beside == 1 and along is not None:
            yield abs(along), 1 if along > 0 else -1
        divided = (a for a in where.atoms if isinstance(a, FloorDiv) and loop in walk_atoms(a.numerator))
        for phases in (a.denominator.constant for a in divided):
            if phases is not None and along in (1, -1):
                yield phases, along


def _size(iterator: Iter) -> int:
    assert isinstance(iterator.extent, int)
    return iterator.extent


def computed(builder: Builder, name: str, loops: tuple[Iter, ...], body: Scalar) -> Compute:
    """A stage of its own over some loops."""
    out = Tensor(builder.name(name), tuple(i.extent for i in loops), body.dtype)
    return Compute((out,), loops, (body,))


def inside(data: Scalar) -> Scalar:
    """A read that stays inside its tensor wherever loops reach that were made longer."""
    read = next(t for t in postorder(data) if isinstance(t, Read))
    axes = zip(read.indices, read.tensor.shape, strict=True)
    held = select(guard(*((0, where, size) for where, size in axes)), read, _zero(read))
    return held if data is read else _merged(data, read, held)


def _zero(read: Read) -> Scalar:
    return const(0.0, read.dtype)


def _merged(data: Scalar, read: Read, held: Scalar) -> Scalar:
    """The guards of ``data`` around the read, those that only keep it inside its tensor once."""
    if not isinstance(held, Select):
        return data
    bounds = dict.fromkeys(held.guard.bounds)
    term = data
    while isinstance(term, Select):
        bounds.update(dict.fromkeys(term.guard.bounds))
        term = term.inside
    return select(guard(*((b.low, b.value, b.high) for b in bounds)), read, _zero(read))
