"""A tensor multiplied with itself: each monomial once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, permutations
from math import comb, factorial

import numpy as np

from tpopt.ir import (
    Apply,
    Builder,
    Compute,
    Const,
    DType,
    Index,
    Iter,
    Lookup,
    Read,
    Scalar,
    Tensor,
    cast,
    const,
    guard,
    index,
    select,
    tensors_read,
    total,
)  # fmt: skip
from tpopt.ir.index import Atom, walk_atoms
from tpopt.ir.program import Array
from tpopt.ir.walk import own_indices, substitute_iters
from tpopt.passes.derive.form import Form, multiplied
from tpopt.passes.derive.products import Product, uses
from tpopt.passes.derive.unify import unified
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.stages import free_iters

MOST_COEFFICIENTS = 1 << 22
"""Of one table of coefficients, orderings of a monomial counted apart."""


@dataclass(frozen=True)
class _Power:
    """Reads of one tensor that differ in the summed iterator on one axis alone."""

    read: Read
    axis: int
    iterators: tuple[Iter, ...]

    @property
    def extent(self) -> int:
        extent = self.iterators[0].extent
        assert isinstance(extent, int)
        return extent

    def at(self, where: Index) -> Read:
        """The read with the axis at another place."""
        indices = list(self.read.indices)
        indices[self.axis] = where
        return Read(self.read.tensor, tuple(indices))


@dataclass(frozen=True)
class _Member:
    """One product as ``constants * rest * power``."""

    power: _Power
    rest: tuple[Scalar, ...]
    constants: tuple[Scalar, ...]
    product: Product

    @property
    def degree(self) -> int:
        return len(self.power.iterators)


class SymmetricPowers:
    """Collects a sum of constant coefficients times powers of one tensor into one polynomial, each monomial once.

    ``sum[i,j]{ c[i,j] * x[i] * x[j] }`` has n*(n+1)/2 monomials, not n*n: the coefficients of equal monomials add up
    before the program runs. Powers of several degrees (and their coefficients) become one sum over monomials, in which
    a last component that is one fills up the lower degrees. The coefficients need not be symmetric.
    Numerics: reassociating. Source: the symmetric contraction of Batatia et al., "MACE" (2022), written for any tensor.

    Given::

        y: f32[9] = L[b:9] sum[i:2,j:2]{ c[i,j] * x[b,i] * x[b,j] }

    Result (``m`` runs over the pairs 00, 01, 11; ``s`` over the two orders of a pair)::

        y.coefficients: f32[3] = L[m:3] sum[s:2]{ once[m,s] * c[row[m,s],row[m,1-s]] }
        y: f32[9] = L[b:9] sum[m:3]{ y.coefficients[m] * x[b,row[m,0]] * x[b,row[m,1]] }
    """

    name = "SymmetricPowers"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form with its powers collected, or why there is nothing to collect."""
        splits = [_splits(form, p) for p in form.polynomial]
        lead = max((m for split in splits for m in split), key=lambda m: m.degree, default=None)
        if lead is None or lead.degree < 2:
            return Refusal("no tensor is multiplied with itself over constant coefficients")
        group, mappings = _group(splits, lead, form)
        count = sum(factorial(d) * comb(lead.power.extent + d - 1, d) for d in {m.degree for m in group})
        shared = _shared(lead)
        size = count
        for iterator in shared:
            assert isinstance(iterator.extent, int)
            size *= iterator.extent
        if size > MOST_COEFFICIENTS * factorial(lead.degree):
            return Refusal(f"{size} coefficients are too many to list")
        writer = _Writer(form, builder, lead, shared)
        taken = [m.product for m in group]
        return writer.write(group, mappings, [p for p in form.polynomial if p not in taken])


def _splits(form: Form, product: Product) -> list[_Member]:
    """The product split around each power in it; none where the coefficients are not constant."""
    fixed = form.constants
    constants = tuple(f for f in product.factors if all(t in fixed for t in tensors_read(f)))
    dynamic = [f for f in product.factors if f not in constants]
    found = []
    for power in _powers(dynamic, product.summed) if any(not isinstance(c, Const) for c in constants) else ():
        inside = {power.at(index(i)) for i in power.iterators}
        rest = tuple(f for f in dynamic if f not in inside)
        if not any(uses(f, i) for f in rest for i in power.iterators):
            found.append(_Member(power, rest, constants, product))
    return found


def _powers(factors: Sequence[Scalar], summed: Sequence[Iter]) -> list[_Power]:
    """Reads grouped by all but one axis, which a summed iterator runs over alone."""
    groups: dict[tuple[Tensor, int, tuple[Index, ...]], list[Iter]] = {}
    reads: dict[tuple[Tensor, int, tuple[Index, ...]], Read] = {}
    for factor in factors:
        for axis, iterator in _lone_axes(factor, summed):
            assert isinstance(factor, Read)
            others = tuple(i for n, i in enumerate(factor.indices) if n != axis)
            groups.setdefault((factor.tensor, axis, others), []).append(iterator)
            reads[factor.tensor, axis, others] = factor
    return [_Power(reads[key], key[1], tuple(its)) for key, its in groups.items() if len(set(its)) == len(its)]


def _lone_axes(factor: Scalar, summed: Sequence[Iter]) -> list[tuple[int, Iter]]:
    if not isinstance(factor, Read):
        return []
    found = []
    for axis, where in enumerate(factor.indices):
        atom = where.atoms[0] if len(where.atoms) == 1 else None
        if not isinstance(atom, Iter) or atom not in summed or where is not index(atom):
            continue
        alone = sum(atom in walk_atoms(i) for i in own_indices(factor)) == 1
        if alone and isinstance(atom.extent, int) and atom.extent == factor.tensor.shape[axis]:
            found.append((axis, atom))
    return found


def _group(
    splits: Sequence[Sequence[_Member]], lead: _Member, form: Form
) -> tuple[list[_Member], dict[_Member, dict[Iter, Iter]]]:
    """Members with the tensor and the other factors of ``lead``, and which of its iterators theirs are."""
    group, mappings = [], {}
    loops = frozenset(form.loops)
    for split in splits:
        for member in split:
            if member.power.axis != lead.power.axis or member.power.read.tensor is not lead.power.read.tensor:
                continue
            same = unified((*member.rest, _base(member)), (*lead.rest, _base(lead)), loops)
            if same is not None:
                group.append(member)
                mappings[member] = same
                break
    return group, mappings


def _base(member: _Member) -> Read:
    """The power's tensor without the axis of its components."""
    return member.power.at(index(0))


def _shared(lead: _Member) -> tuple[Iter, ...]:
    """Iterators that link the coefficients to the other factors or to the loops of the result."""
    outside = {i for f in (*lead.rest, _base(lead)) for i in free_iters(f)}
    summed = set(lead.product.summed)
    own = dict.fromkeys(i for f in lead.constants for i in free_iters(f))
    return tuple(i for i in own if i not in lead.power.iterators and (i in outside or i not in summed))


@dataclass
class _Writer:
    form: Form
    builder: Builder
    lead: _Member
    shared: tuple[Iter, ...]

    def __post_init__(self) -> None:
        self.tables: dict[str, Array] = {}
        self.weights: list[Tensor] = []
        self.prelude: list[Compute] = []

    def write(self, group: list[_Member], mappings: dict[_Member, dict[Iter, Iter]], others: list[Product]) -> Form:
        """One product over all monomials, and the products that stay as they are."""
        degrees = sorted({m.degree for m in group})
        names, count = self.form.region.name, self.lead.power.extent
        monomials = {d: list(combinations_with_replacement(range(count), d)) for d in degrees}
        shared = dict.fromkeys(i for m in group for i in self._shared_of(m, mappings[m]))
        parts = []
        for degree in degrees:
            own = [m for m in group if m.degree == degree]
            collected = self._coefficients(monomials[degree], own, mappings, tuple(shared))
            parts.append((collected, len(monomials[degree])))
        number = Iter(self.builder.name("m"), sum(n for _, n in parts))
        coefficients = self._joined(parts, number, tuple(shared), f"{names}.coefficients")
        places = self._table(f"{names}.monomials", self._places(degrees, monomials, count))
        factors = self._components(places, number, filled=len(degrees) > 1)
        inside = dict.fromkeys(self.lead.power.iterators)
        kept = {i for f in (*self.lead.rest, coefficients, *factors) for i in free_iters(f)}
        summed = tuple(i for i in self.lead.product.summed if i not in inside and i in kept)
        product = Product((*summed, number), (*self.lead.rest, coefficients, *factors))
        return replace(
            self.form,
            polynomial=(product, *others), prelude=(*self.form.prelude, *self.prelude),
            tables={**self.form.tables, **self.tables}, new_weights=(*self.form.new_weights, *self.weights),
        )  # fmt: skip

    def _shared_of(self, member: _Member, mapping: dict[Iter, Iter]) -> tuple[Iter, ...]:
        return tuple(mapping.get(i, i) for i in _shared(member))

    def _coefficients(
        self,
        monomials: list[tuple[int, ...]],
        group: list[_Member],
        mappings: dict[_Member, dict[Iter, Iter]],
        shared: tuple[Iter, ...],
    ) -> Tensor:
        """``[monomial, shared...]``: what stands before each monomial of one degree."""
        degree = len(monomials[0])
        dense = self._dense(degree, group, mappings, shared)
        orders = list(permutations(range(degree)))
        places = np.array([[[m[k] for k in order] for order in orders] for m in monomials], np.int64)
        once = np.zeros((len(monomials), len(orders)), np.bool_)
        for row, monomial in enumerate(places.tolist()):
            seen = set()
            for column, order in enumerate(map(tuple, monomial)):
                once[row, column] = order not in seen
                seen.add(order)
        table = self._table(f"{self.form.region.name}.orders", places)
        first = self._table(f"{self.form.region.name}.once", once)
        m, s = Iter("m", len(monomials)), Iter("s", len(orders))
        extent = index(self.lead.power.extent)
        where = [index(Lookup(table, (index(m), index(s), index(k)), index(0), extent)) for k in range(degree)]
        mark: Scalar = first.at((m, s))
        like = self.form.region.pivot.dtype
        body = total((s,), Apply("mul", (cast(mark, like), dense.at([*where, *shared]))))
        return self._stage(f"{self.form.region.name}.collected", (m, *shared), body)

    def _dense(
        self, degree: int, group: list[_Member], mappings: dict[_Member, dict[Iter, Iter]], shared: tuple[Iter, ...]
    ) -> Tensor:
        """The constants of all products of one degree as one tensor ``[components..., shared...]``."""
        own = tuple(Iter(f"c{k}", self.lead.power.extent) for k in range(degree))
        terms: list[Scalar] = []
        for member in group:
            mapping: dict[Atom, Index] = {i: index(j) for i, j in zip(member.power.iterators, own, strict=True)}
            mapping.update({i: index(j) for i, j in mappings[member].items()})
            factors = tuple(substitute_iters(f, mapping) for f in member.constants)
            free = dict.fromkeys(i for f in factors for i in free_iters(f))
            summed = tuple(i for i in free if i not in own and i not in shared)
            terms.append(total(summed, multiplied(factors, self.form.region.pivot)))
        body = terms[0] if len(terms) == 1 else Apply("add", tuple(terms))
        return self._stage(f"{self.form.region.name}.dense", (*own, *shared), body)

    def _joined(self, parts: list[tuple[Tensor, int]], number: Iter, shared: tuple[Iter, ...], name: str) -> Read:
        """The parts one after the other, read at ``number``."""
        if len(parts) == 1:
            return parts[0][0].at((number, *shared))
        m, end, body = Iter("m", number.extent), index(number.extent), None
        for tensor, count in reversed(parts):
            start = end - count
            part: Scalar = tensor.at((m - start, *shared))
            body = part if body is None else select(guard((start, m, end)), part, body)
            end = start
        assert body is not None
        return self._stage(name, (m, *shared), body).at((number, *shared))

    def _places(self, degrees: list[int], monomials: dict[int, list[tuple[int, ...]]], count: int) -> Array:
        """The components of each monomial; ``count`` stands for one."""
        rows = [(*m, *[count] * (degrees[-1] - d)) for d in degrees for m in monomials[d]]
        return np.array(rows, np.int64)

    def _components(self, places: Tensor, number: Iter, *, filled: bool) -> list[Scalar]:
        """The reads that make a monomial, of the tensor with a component that is one behind it where degrees differ."""
        power = self.lead.power
        extent = index(power.extent + filled)
        where = [
            index(Lookup(places, (index(number), index(k)), index(0), extent)) for k in range(int(str(places.shape[1])))
        ]
        scope = tuple(dict.fromkeys(i for i in free_iters(_base(self.lead))))
        if not filled and scope and power.read.indices[-1] is not index(power.iterators[0]):
            return [power.at(w) for w in where]
        j = Iter(self.builder.name("j"), size_of(extent))
        inside: Scalar = power.at(index(j))
        value = select(guard((0, j, power.extent)), inside, const(1, inside.dtype)) if filled else inside
        loops = (*scope[:-1], j, *scope[-1:])
        made = self._stage(f"{self.form.region.name}.components", loops, value)
        return [made.at([w if i is j else index(i) for i in loops]) for w in where]

    def _stage(self, base: str, loops: tuple[Iter, ...], body: Scalar) -> Tensor:
        out = Tensor(self.builder.name(base), tuple(i.extent for i in loops), body.dtype)
        self.prelude.append(Compute((out,), loops, (body,)))
        return out

    def _table(self, base: str, values: Array) -> Tensor:
        dtype = DType.I64 if values.dtype.kind == "i" else DType.BOOL
        found = Tensor(self.builder.name(base), values.shape, dtype)
        self.tables[found.name] = values
        self.weights.append(found)
        return found


def size_of(extent: Index) -> int:
    """A known extent as a number."""
    known = extent.constant
    assert known is not None
    return known
