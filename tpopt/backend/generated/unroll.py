"""Writes out small transforms: loops and sums over a matrix given by a formula become terms with its numbers in them.

``sum[j:6]{ data[a,j] * x[4*t+j] }`` over six values of ``a`` is six cases of a few additions each, which share what
they have in common. Numbers of 0, 1 and -1 cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, prod
from typing import Final

from tpopt.backend.generated.plan import Case, Work
from tpopt.backend.generated.sizes import elements, extent
from tpopt.ir import Apply, Compute, Const, FloorDiv, Index, Iter, Mod, Read, Reduce, Scalar, const, guard, index
from tpopt.ir.index import Atom, IndexLike, substitute, walk_atoms
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.materialize import is_formula, materialize
from tpopt.ir.walk import children, own_indices, postorder, substitute_iters, with_children

MOST_NUMBERS: Final = 256
"""Elements of a matrix whose numbers are written into code."""
MOST_CASES: Final = 128
"""Points of the loops that are written out."""
MOST_TERMS: Final = 1024
"""Points of one sum that is written out."""


def is_literal(read: Read) -> bool:
    """Whether a read takes one of the few numbers of a matrix that its formula gives."""
    tensor = read.tensor
    return is_formula(tensor.structure) and tensor.dtype.is_float and elements(tensor) <= MOST_NUMBERS


def reads_literals(stage: Compute) -> bool:
    """Whether a stage is such a transform."""
    return any(isinstance(t, Read) and is_literal(t) for t in postorder(*stage.bodies))


def unrolled(stage: Compute) -> Work:
    """The stage with its transforms written out; as it is where it holds none, or too much would be written."""
    literals = [t for t in postorder(*stage.bodies) if isinstance(t, Read) and is_literal(t)]
    splits = _splits(stage, literals)
    if not literals or splits is None:
        return Work.of(stage)
    moves = [dict(zip(splits, case, strict=True)) for case in product(*(s.cases() for s in splits.values()))]
    loops = tuple(i for l in stage.loops for i in (splits[l].loops if l in splits else (l,)))
    written = _Written()
    cases = []
    for move in moves:
        mapping: dict[Atom, IndexLike] = dict(move)
        bodies = tuple(written.out(substitute_iters(b, mapping)) for b in stage.bodies)
        where = tuple(index(move.get(l, l)) for l in stage.loops)
        inside = guard(*((0, move[l], extent(l)) for l in splits))
        cases.append(Case(bodies, where, inside if inside.bounds else None))
    return Work(stage.outs, loops, tuple(cases))


class _Split:
    """A loop as ``step * (number * count + place) + phase``; every ``place`` is a case of its own."""

    def __init__(self, loop: Iter, step: int, count: int) -> None:
        numbers = ceil(extent(loop) / (step * count))
        self.loop, self.step, self.count = loop, step, count
        self.number, self.phase = Iter(f"{loop.name}_n", numbers), Iter(f"{loop.name}_p", step)
        self.loops = tuple(i for i in (self.number, self.phase) if extent(i) > 1)

    def cases(self) -> Iterator[Index]:
        number, phase = (index(i) if extent(i) > 1 else index(0) for i in (self.number, self.phase))
        for place in range(self.count):
            yield number * (self.step * self.count) + place * self.step + phase


def _splits(stage: Compute, literals: list[Read]) -> dict[Iter, _Split] | None:
    """How loops are split so that numbers depend on the case alone; ``None`` where they cannot be."""
    found: dict[Iter, _Split] = {}
    for where in (i for r in literals for i in r.indices):
        for loop in (l for l in stage.loops if l in iters_of((where,))):
            split = _split(where, loop)
            if split is None or (loop in found and (found[loop].step, found[loop].count) != (split.step, split.count)):
                return None
            found[loop] = split
    sums = {r for r in postorder(*stage.bodies) if isinstance(r, Reduce) and any(l in postorder(r) for l in literals)}
    if prod(s.count for s in found.values()) > MOST_CASES or any(_points(r) > MOST_TERMS for r in sums):
        return None
    return found


def _points(reduce: Reduce) -> int:
    return prod(extent(i) for i in reduce.iters)


def _split(where: Index, loop: Iter) -> _Split | None:
    """The split under which an index depends on the place alone; ``loop`` and ``(loop // step) % count`` have one."""
    if where is index(loop):
        return _Split(loop, 1, extent(loop))
    atoms = list(walk_atoms(where))
    for mod in (a for a in atoms if isinstance(a, Mod)):
        count = index(mod.denominator).constant
        inner = [a for a in mod.numerator.atoms if isinstance(a, FloorDiv)]
        step = index(inner[0].denominator).constant if inner else 1
        if count is None or step is None:
            continue
        split = _Split(loop, step, count)
        places = [substitute(where, {loop: value}) for value in split.cases()]
        if all(not iters_of((p,)) or loop not in iters_of((p,)) for p in places) and not any(
            i in iters_of((p,)) for p in places for i in split.loops
        ):
            return split
    return None


class _Written:
    """Terms with sums over literals written out; equal ones are one object."""

    def __init__(self) -> None:
        self._known: dict[Scalar, Scalar] = {}
        self._values: dict[object, object] = {}

    def out(self, term: Scalar) -> Scalar:
        """The term without reads of literals."""
        if term not in self._known:
            self._known[term] = self._made(term)
        return self._known[term]

    def _made(self, term: Scalar) -> Scalar:
        if isinstance(term, Read) and is_literal(term):
            return self._number(term)
        if isinstance(term, Reduce) and self._holds(term):
            parts = []
            for values in product(*(range(extent(i)) for i in term.iters)):
                mapping: dict[Atom, IndexLike] = dict(zip(term.iters, values, strict=True))
                parts.append(self.out(substitute_iters(term.bodies[0], mapping)))
            return _sum(parts)
        operands = tuple(self.out(c) for c in children(term))
        made = with_children(term, operands) if operands != children(term) else term
        return _product(made) if isinstance(made, Apply) and made.function == "mul" else made

    @staticmethod
    def _holds(term: Reduce) -> bool:
        """Whether the sum runs over an axis of a literal."""
        inside = (t for t in postorder(*term.bodies) if isinstance(t, Read) and is_literal(t))
        return term.monoid == "sum" and any(i in iters_of(own_indices(t)) for t in inside for i in term.iters)

    @staticmethod
    def _number(read: Read) -> Const:
        place = tuple(i.constant for i in read.indices)
        assert all(p is not None for p in place), f"{read} depends on a loop that was not written out"
        return const(float(materialize(read.tensor)[place]), read.dtype)


def _product(term: Apply) -> Scalar:
    """A product with what it is by 0, 1 and -1."""
    a, b = term.args
    if isinstance(b, Const) and not isinstance(a, Const):
        a, b = b, a
    if not isinstance(a, Const):
        return term
    if a.value == 0:
        return const(0.0, term.dtype)
    if a.value == 1:
        return b
    return Apply("neg", (b,)) if a.value == -1 else Apply("mul", (a, b))


def _sum(parts: list[Scalar]) -> Scalar:
    """A sum without its zeros."""
    left = [p for p in parts if not (isinstance(p, Const) and p.value == 0)]
    if not left:
        return parts[0]
    first = next((p for p in left if not _is_negated(p)), left[0])
    total = first
    for part in left:
        if part is first:
            continue
        total = Apply("sub", (total, part.args[0])) if _is_negated(part) else Apply("add", (total, part))
    return total


def _is_negated(term: Scalar) -> bool:
    return isinstance(term, Apply) and term.function == "neg"
