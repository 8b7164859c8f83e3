"""The same algebra at small sizes: extents that no index, guard or constant depends on may have any value.

An extent belongs to the axes and iterators that share it because one runs over the other alone and whole. Such a class
is free when nothing else is said about any of its members. Programs that are equal at three or more values of a free
extent (pairwise distinct from each other) are equal at all: what they say of it is that all its values are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from tpopt.ir import (
    Compute,
    Index,
    Iter,
    Lookup,
    Program,
    Read,
    Reduce,
    Scalar,
    Stage,
    Tensor,
    index,
    postorder,
    stage_reads,
)
from tpopt.ir.index import walk_atoms
from tpopt.ir.rename import Renaming
from tpopt.ir.structure import DENSE
from tpopt.ir.walk import own_indices

SIZES: Final = (3, 5, 7, 11, 13, 4, 6, 8, 9, 10)
"""Values of free extents: pairwise distinct as long as they last, and no two of the first five share a factor."""

Place: TypeAlias = tuple[object, ...]
"""An axis ``(tensor name, number)`` or an iterator ``(program, stage, name)``."""


@dataclass
class _Classes:
    """Places that share an extent; what is fixed stays as it is."""

    parent: dict[Place, Place] = field(default_factory=dict)
    extents: dict[Place, int] = field(default_factory=dict)
    fixed: dict[Place, None] = field(default_factory=dict)

    def find(self, place: Place) -> Place:
        root = place
        while self.parent.get(root, root) != root:
            root = self.parent[root]
        self.parent[place] = root
        return root

    def join(self, one: Place, other: Place) -> None:
        self.parent[self.find(one)] = self.find(other)

    def fix(self, place: Place) -> None:
        self.fixed[place] = None

    def chosen(self) -> dict[Place, int]:
        """The new extent of every place."""
        fixed = {self.find(p) for p in self.fixed}
        roots = list(dict.fromkeys(self.find(p) for p in self.extents))
        free = [r for r in roots if r not in fixed]
        small = {r: SIZES[n % len(SIZES)] for n, r in enumerate(free)}
        return {p: min(small.get(self.find(p), e), e) for p, e in self.extents.items()}


def resized(programs: Sequence[Program]) -> tuple[Program, ...]:
    """Programs over the same tensors, all with the same small extents; symbols and other stages fix what they touch."""
    classes = _Classes()
    for number, program in enumerate(programs):
        _classify(program, number, classes)
    sizes = classes.chosen()
    return tuple(_at(program, number, sizes) for number, program in enumerate(programs))


def _classify(program: Program, number: int, classes: _Classes) -> None:
    for tensor in program.tensors.values():
        for axis, extent in enumerate(tensor.shape):
            if isinstance(extent, int):
                classes.extents[tensor.name, axis] = extent
    for weight in program.weights:
        if weight.structure is not DENSE or not (weight.dtype.is_float or weight.dtype.is_complex):
            _fix_all(weight, classes)
    for stage in program.stages:
        if isinstance(stage, Compute):
            _classify_compute(stage, number, classes)
        else:
            for tensor in _touched(stage):
                _fix_all(tensor, classes)


def _classify_compute(stage: Compute, number: int, classes: _Classes) -> None:
    name = stage.outs[0].name
    terms = postorder(*stage.bodies)
    bound = dict.fromkeys((*stage.loops, *(i for t in terms if isinstance(t, Reduce) for i in t.iters)))
    for iterator in bound:
        if isinstance(iterator.extent, int):
            classes.extents[number, name, iterator.name] = iterator.extent
    for out in stage.outs:
        for axis, loop in enumerate(stage.loops):
            classes.join((out.name, axis), (number, name, loop.name))
    plain: dict[Iter, None] = {}
    for term in terms:
        whole = _whole_axes(term)
        for axis, iterator in whole.items():
            assert isinstance(term, Read)
            plain[iterator] = None
            classes.join((term.tensor.name, axis), (number, name, iterator.name))
        for axis, where in enumerate(own_indices(term)):
            if axis not in whole:
                _fix_index(where, (number, name), classes)
                if isinstance(term, Read):
                    classes.fix((term.tensor.name, axis))
    for iterator in bound:
        if iterator not in plain and iterator not in stage.loops:
            classes.fix((number, name, iterator.name))  # a sum over what nothing reads counts


def _whole_axes(term: Scalar) -> dict[int, Iter]:
    """Axes of a read that one iterator runs over alone and whole."""
    found: dict[int, Iter] = {}
    for axis, where in enumerate(term.indices) if isinstance(term, Read) else ():
        atom = where.atoms[0] if len(where.atoms) == 1 else None
        if isinstance(atom, Iter) and where is index(atom) and index(term.tensor.shape[axis]) is index(atom.extent):  # type: ignore[union-attr]
            found[axis] = atom
    return found


def _fix_index(where: Index, stage: tuple[int, str], classes: _Classes) -> None:
    for atom in walk_atoms(where):
        if isinstance(atom, Iter):
            classes.fix((*stage, atom.name))
        elif isinstance(atom, Lookup):
            _fix_all(atom.tensor, classes)


def _fix_all(tensor: Tensor, classes: _Classes) -> None:
    for axis in range(tensor.rank):
        classes.fix((tensor.name, axis))


def _touched(stage: Stage) -> Iterable[Tensor]:
    return dict.fromkeys((*stage.outs, *stage_reads(stage)))


def _at(program: Program, number: int, sizes: Mapping[Place, int]) -> Program:
    """The program with the extents given."""
    tensors = {t: _sized(t, sizes) for t in program.tensors.values()}
    stages: list[Stage] = []
    for stage in program.stages:
        iterators: dict[Iter, Iter] = {}
        if isinstance(stage, Compute):
            name = stage.outs[0].name
            bound = (*stage.loops, *(i for t in postorder(*stage.bodies) if isinstance(t, Reduce) for i in t.iters))
            iterators = {i: Iter(i.name, sizes.get((number, name, i.name), i.extent)) for i in bound}
        stages.append(Renaming(iterators=iterators, _tensors=dict(tensors)).stage(stage))
    kept = {n: a for n, a in program.constants.items() if tensors[program.tensors[n]] is program.tensors[n]}
    return replace(
        program,
        inputs=tuple(tensors[t] for t in program.inputs), weights=tuple(tensors[t] for t in program.weights),
        outputs=tuple(tensors[t] for t in program.outputs), stages=tuple(stages), constants=kept,
    )  # fmt: skip


def _sized(tensor: Tensor, sizes: Mapping[Place, int]) -> Tensor:
    shape = tuple(sizes.get((tensor.name, axis), extent) for axis, extent in enumerate(tensor.shape))
    return replace(tensor, shape=shape)
