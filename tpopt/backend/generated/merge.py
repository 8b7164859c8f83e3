"""Joins neighbouring loops that run through memory as one: fewer, longer loops, and vectors across their borders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tpopt.backend.generated.plan import dense_strides
from tpopt.backend.generated.sizes import extent, shape
from tpopt.ir import Compute, Index, Iter, Read, Reduce, Scalar, Tensor, index
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.walk import own_indices, postorder, rebuild, substitute_iters, tensors_of_indices
from tpopt.rewrite.stages import term_indices

Strides = Mapping[str, tuple[int, ...]]
Pair = tuple[Iter, Iter]


@dataclass(frozen=True)
class _Place:
    """A tensor where it is read or written: its axes of more than one element, and the indices there."""

    tensor: Tensor
    axes: tuple[int, ...]
    indices: tuple[Index, ...]

    def pair(self, number: int) -> Pair | None:
        """The loops that run through two neighbouring axes, each through the whole of its own."""
        if number < 0 or number + 1 >= len(self.axes):
            return None
        found = [_alone(i) for i in self.indices[number : number + 2]]
        sizes = [shape(self.tensor)[a] for a in self.axes[number : number + 2]]
        whole = all(i is not None and extent(i) == n for i, n in zip(found, sizes, strict=True))
        return (found[0], found[1]) if whole and found[0] is not None and found[1] is not None else None


def merged(stage: Compute, strides: Strides) -> tuple[Compute, dict[str, tuple[int, ...]]]:
    """The stage over fewer loops, and the strides of its tensors as it indexes them now.

    Loops of one point are dropped. Two loops are joined where they stand side by side in every tensor that one of them
    runs through, and lie there without a gap. ``strides`` (elements) belong to tensors that are not dense.
    """
    gone: dict[Atom, IndexLike] = {i: 0 for i in stage.loops if extent(i) == 1}
    bodies = tuple(substitute_iters(b, gone) for b in stage.bodies)
    loops = tuple(i for i in stage.loops if i not in gone)
    kept = _axes(stage, bodies)
    steps = {t: strides.get(t.name, dense_strides(shape(t))) for t in kept}
    places = [_Place(o, kept[o], tuple(map(index, loops))) for o in stage.outs]
    places += [_place(t, kept) for t in postorder(*bodies) if isinstance(t, Read)]
    pairs = _pairs(bodies, loops, places, steps)
    joined = _joined([loops, *(r.iters for r in postorder(*bodies) if isinstance(r, Reduce))], pairs)
    runs = {p.tensor: _runs(p, pairs) for p in places}
    views = {t: _view(t, r) for t, r in runs.items()}

    def one(term: Scalar) -> Scalar:
        if isinstance(term, Read) and term.tensor in runs:
            first = {run[0]: term.indices[run[0]] for run in runs[term.tensor]}
            return Read(views[term.tensor], tuple(_moved(i, joined) for i in first.values()))
        if isinstance(term, Reduce):
            return Reduce(
                term.monoid, tuple(dict.fromkeys(joined.get(i, i) for i in term.iters)), term.bodies, term.pick
            )
        return term

    outs = tuple(views[o] for o in stage.outs)
    whole = tuple(dict.fromkeys(joined.get(i, i) for i in loops))
    found = {t.name: tuple(steps[t][run[-1]] for run in r) for t, r in runs.items()}
    return Compute(outs, whole, tuple(rebuild(b, one) for b in bodies)), found


def _view(tensor: Tensor, runs: tuple[tuple[int, ...], ...]) -> Tensor:
    """A tensor with its axes joined as they are in ``runs``."""
    joined = tuple(prod(shape(tensor)[a] for a in run) for run in runs)
    return tensor if joined == shape(tensor) else Tensor(tensor.name, joined, tensor.dtype)


def _axes(stage: Compute, bodies: Sequence[Scalar]) -> dict[Tensor, tuple[int, ...]]:
    """Axes of more than one element of every tensor that is not an index."""
    looked_up = tensors_of_indices(term_indices(*bodies))
    tensors = dict.fromkeys((*stage.outs, *(t.tensor for t in postorder(*bodies) if isinstance(t, Read))))
    return {t: tuple(a for a, n in enumerate(shape(t)) if n > 1 or t in looked_up) for t in tensors}


def _place(read: Read, kept: Mapping[Tensor, tuple[int, ...]]) -> _Place:
    axes = kept[read.tensor]
    return _Place(read.tensor, axes, tuple(read.indices[a] for a in axes))


def _pairs(
    bodies: Sequence[Scalar],
    loops: tuple[Iter, ...],
    places: Sequence[_Place],
    steps: Mapping[Tensor, tuple[int, ...]],
) -> set[Pair]:
    """Which loops can be joined: the largest set in which every place agrees."""
    scopes = [loops, *(t.iters for t in postorder(*bodies) if isinstance(t, Reduce))]
    elsewhere = (own_indices(t) for t in postorder(*bodies) if not isinstance(t, Read))
    fixed = {i for indices in elsewhere for i in iters_of(indices)}
    fixed |= {i for p in places for where in p.indices if _alone(where) is None for i in iters_of((where,))}
    looked_up = tensors_of_indices(term_indices(*bodies))
    together = [
        (pair, place.tensor not in looked_up and _without_gap(place, number, steps[place.tensor]))
        for place in places
        for number in range(len(place.axes) - 1)
        if (pair := place.pair(number)) is not None
    ]
    pairs = {p for p, _ in together if any(p[0] in s and p[1] in s for s in scopes) and not fixed.intersection(p)}
    pairs -= {p for p, possible in together if not possible}
    while True:
        bad = {pair for pair in pairs if not all(_agrees(pair, p, pairs, places) for p in places)}
        if not bad:
            return pairs
        pairs -= bad


def _agrees(pair: Pair, place: _Place, pairs: set[Pair], places: Sequence[_Place]) -> bool:
    """Whether a place takes both loops of a pair side by side, or neither, as all places of its tensor do."""
    for number, where in enumerate(place.indices):
        loop = _alone(where)
        if (loop is pair[0] and place.pair(number) != pair) or (loop is pair[1] and place.pair(number - 1) != pair):
            return False
        if loop is pair[0]:
            same = (p for p in places if p.tensor is place.tensor)
            if any(p.pair(number) not in pairs for p in same):
                return False
    return True


def _without_gap(place: _Place, number: int, steps: tuple[int, ...]) -> bool:
    a, b = place.axes[number : number + 2]
    return steps[a] == steps[b] * shape(place.tensor)[b]


def _joined(scopes: Sequence[tuple[Iter, ...]], pairs: set[Pair]) -> dict[Iter, Iter]:
    """The loop that each joined one is part of."""
    after = dict(pairs)
    second = set(after.values())
    taken = {i.name for s in scopes for i in s}
    found: dict[Iter, Iter] = {}
    for start in dict.fromkeys(i for s in scopes for i in s if i in after and i not in second):
        chain = list(_chain(start, after))
        name = "_".join(i.name for i in chain)
        while name in taken:
            name += "_"
        taken.add(name)
        found.update(dict.fromkeys(chain, Iter(name, prod(extent(i) for i in chain))))
    return found


def _chain(start: Iter, after: Mapping[Iter, Iter]) -> Iterator[Iter]:
    while True:
        yield start
        if start not in after:
            return
        start = after[start]


def _runs(place: _Place, pairs: set[Pair]) -> tuple[tuple[int, ...], ...]:
    """Axes of a tensor, those that are one now together."""
    found: list[list[int]] = []
    for number, axis in enumerate(place.axes):
        if found and place.pair(number - 1) in pairs:
            found[-1].append(axis)
        else:
            found.append([axis])
    return tuple(map(tuple, found))


def _moved(where: Index, joined: Mapping[Iter, Iter]) -> Index:
    loop = _alone(where)
    return where if loop is None or loop not in joined else index(joined[loop])


def _alone(where: Index) -> Iter | None:
    """The iterator that an index consists of."""
    atoms = list(walk_atoms(where))
    return atoms[0] if len(atoms) == 1 and isinstance(atoms[0], Iter) and where is index(atoms[0]) else None
