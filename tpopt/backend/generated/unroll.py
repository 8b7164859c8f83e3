"""Writes out small transforms: loops and sums over a matrix given by a formula become terms with its numbers in them.

``sum[j:6]{ data[a,j] * x[4*t+j] }`` over six values of ``a`` is six cases of a few additions each, which share what
they have in common. Numbers of 0, 1 and -1 cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import product
from math import ceil, prod
from typing import Final, TypeGuard

from tpopt.backend.generated.plan import Case, Work
from tpopt.backend.generated.sizes import elements, extent
from tpopt.ir import (
    Apply,
    Compute,
    Const,
    FloorDiv,
    Guard,
    Index,
    Iter,
    Mod,
    Read,
    Reduce,
    Scalar,
    const,
    guard,
    index,
)
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
    values: dict[Atom, IndexLike] = {loop: split.value for loop, split in splits.items()}
    expanded = _Expanded()
    bodies = tuple(expanded.out(substitute_iters(b, values)) for b in stage.bodies)
    where = tuple(index(values.get(l, l)) for l in stage.loops)
    inside = guard(*((0, split.value, extent(loop)) for loop, split in splits.items()))
    special = _Special([s.place for s in splits.values()])
    cases = []
    for places in product(*(range(s.count) for s in splits.values())):
        at = dict(zip((s.place for s in splits.values()), places, strict=True))
        held = special.guard(inside, at)
        cases.append(Case(tuple(special.out(b, at) for b in bodies), tuple(special.index(w, at) for w in where), held))
    loops = tuple(i for l in stage.loops for i in (splits[l].loops if l in splits else (l,)))
    return Work(stage.outs, loops, tuple(cases))


class _Split:
    """A loop as ``step * (number * count + place) + phase``; every value of ``place`` is a case of its own."""

    def __init__(self, loop: Iter, step: int, count: int) -> None:
        self.step, self.count = step, count
        self.place = Iter(f"{loop.name}_q", count)
        outer = Iter(f"{loop.name}_n", ceil(extent(loop) / (step * count))), Iter(f"{loop.name}_p", step)
        self.loops = tuple(i for i in outer if extent(i) > 1)
        number, phase = (index(i) if extent(i) > 1 else index(0) for i in outer)
        self.value = number * (step * count) + index(self.place) * step + phase


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
    """The split under which an index depends on the place alone.

    ``loop``, ``loop // step`` and ``(loop // step) % count`` have one.
    """
    if where is index(loop):
        return _Split(loop, 1, extent(loop))
    for atom in where.atoms:
        step = index(atom.denominator).constant if isinstance(atom, FloorDiv) else None
        if step is not None and where is index(loop) // step:
            return _Split(loop, step, ceil(extent(loop) / step))
    for mod in (a for a in walk_atoms(where) if isinstance(a, Mod)):
        inner = [a for a in mod.numerator.atoms if isinstance(a, FloorDiv)]
        count = index(mod.denominator).constant
        step = index(inner[0].denominator).constant if inner else 1
        if count is None or step is None:
            continue
        split = _Split(loop, step, count)
        left = iters_of((substitute(where, {loop: split.value}),))
        if loop not in left and not any(i in left for i in split.loops):
            return split
    return None


class _Expanded:
    """Sums over an axis of a literal, term by term; the literals stay."""

    def __init__(self) -> None:
        self._known: dict[Scalar, Scalar] = {}

    def out(self, term: Scalar) -> Scalar:
        """The term with such sums written out."""
        if term not in self._known:
            self._known[term] = self._made(term)
        return self._known[term]

    def _made(self, term: Scalar) -> Scalar:
        if isinstance(term, Reduce) and _runs_over_literal(term):
            parts = []
            for values in product(*(range(extent(i)) for i in term.iters)):
                mapping: dict[Atom, IndexLike] = dict(zip(term.iters, values, strict=True))
                parts.append(self.out(substitute_iters(term.bodies[0], mapping)))
            total = parts[0]
            for part in parts[1:]:
                total = Apply("add", (total, part))
            return total
        operands = tuple(self.out(c) for c in children(term))
        return with_children(term, operands) if operands != children(term) else term


def _runs_over_literal(term: Reduce) -> bool:
    inside = (t for t in postorder(*term.bodies) if isinstance(t, Read) and is_literal(t))
    return term.monoid == "sum" and any(i in iters_of(own_indices(t)) for t in inside for i in term.iters)


class _Special:
    """Terms at one case: literals are numbers, and what these make superfluous is gone. Equal terms are one object."""

    def __init__(self, places: list[Iter]) -> None:
        self._places = frozenset(places)
        self._free: dict[Scalar, frozenset[Iter]] = {}
        self._known: dict[tuple[Scalar, tuple[tuple[Iter, int], ...]], Scalar] = {}

    def index(self, where: Index, at: Mapping[Iter, int]) -> Index:
        """An index at a case."""
        return substitute(where, {i: v for i, v in at.items() if i in iters_of((where,))})

    def guard(self, inside: Guard, at: Mapping[Iter, int]) -> Guard | None:
        """A guard at a case; ``None`` where it always holds."""
        bounds = ((self.index(b.low, at), self.index(b.value, at), self.index(b.high, at)) for b in inside.bounds)
        held = guard(*bounds)
        return held if held.bounds else None

    def out(self, root: Scalar, at: Mapping[Iter, int]) -> Scalar:
        """A term at a case."""
        done: dict[Scalar, Scalar] = {}
        for term in postorder(root):
            free = self._depends(term)
            key = term, tuple((i, v) for i, v in at.items() if i in free)
            if key not in self._known:
                self._known[key] = self._made(term, done, dict(key[1]))
            done[term] = self._known[key]
        return done[root]

    def _depends(self, term: Scalar) -> frozenset[Iter]:
        """Places that a term depends on."""
        if term not in self._free:
            own = self._places.intersection(iters_of(own_indices(term)))
            self._free[term] = own.union(*(self._depends(c) for c in children(term)))
        return self._free[term]

    def _made(self, term: Scalar, done: Mapping[Scalar, Scalar], at: dict[Iter, int]) -> Scalar:
        if isinstance(term, Read) and is_literal(term):
            place = tuple(self.index(i, at).constant for i in term.indices)
            assert None not in place, f"{term} depends on a loop that was not written out"
            return const(float(materialize(term.tensor)[place]), term.dtype)
        operands = tuple(done[c] for c in children(term))
        made = with_children(term, operands) if operands != children(term) else term
        if self._places.intersection(iters_of(own_indices(made))):
            mapping: dict[Atom, IndexLike] = {i: index(v) for i, v in at.items()}
            made = substitute_iters(made, mapping)
        plain = _PLAIN.get(made.function) if isinstance(made, Apply) else None
        return reduce(plain, operands) if plain is not None else made


def _sum(a: Scalar, b: Scalar) -> Scalar:
    """A sum, without what is 0."""
    if _is_number(a, 0.0) or _is_number(b, 0.0):
        return b if _is_number(a, 0.0) else a
    if _is_negated(b):
        return Apply("sub", (a, b.args[0]))
    return Apply("sub", (b, a.args[0])) if _is_negated(a) else Apply("add", (a, b))


def _product(a: Scalar, b: Scalar) -> Scalar:
    """A product with what it is by 0, 1 and -1."""
    if isinstance(b, Const) and not isinstance(a, Const):
        a, b = b, a
    if not isinstance(a, Const):
        return Apply("mul", (a, b))
    if a.value == 0:
        return const(0.0, a.dtype)
    if a.value == 1:
        return b
    return Apply("neg", (b,)) if a.value == -1 else Apply("mul", (a, b))


_PLAIN: Final = {"add": _sum, "mul": _product}


def _is_number(term: Scalar, value: float) -> bool:
    return isinstance(term, Const) and term.value == value


def _is_negated(term: Scalar) -> TypeGuard[Apply]:
    return isinstance(term, Apply) and term.function == "neg"
