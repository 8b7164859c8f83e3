"""Sums of products: the canonical form in which the algebra of a region is searched.

A :class:`Product` is ``sum over summed of the product of its factors``; a :class:`Polynomial` adds products up. A
factor is any scalar that is no sum and no product: a read, a guarded read, a literal, a function of something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TypeAlias

from tpopt.ir import (
    Apply,
    Bound,
    Cast,
    Const,
    DType,
    Guard,
    Iter,
    Read,
    Reduce,
    Scalar,
    Select,
    const,
    postorder,
    select,
)
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.walk import children, is_literal, own_indices, substitute_iters
from tpopt.passes.derive.pieces import pieces
from tpopt.rewrite.stages import free_iters

MOST_PRODUCTS = 64
"""A region whose expansion has more products is left alone."""

Polynomial: TypeAlias = "tuple[Product, ...]"


@dataclass(frozen=True)
class Product:
    """``sum over summed of the product of factors``; some factor reads each summed iterator."""

    summed: tuple[Iter, ...]
    factors: tuple[Scalar, ...]

    def iterators(self) -> tuple[Iter, ...]:
        """Iterators that the factors read, in order of appearance."""
        return tuple(dict.fromkeys(i for f in self.factors for i in free_iters(f)))

    def moved(self, mapping: Mapping[Atom, IndexLike]) -> Product:
        """With iterators replaced in every factor."""
        return replace(self, factors=tuple(substitute_iters(f, mapping) for f in self.factors))


@dataclass
class Names:
    """Hands out iterators that no other part of a region has."""

    prefix: str = "r"
    count: int = 0

    def fresh(self, iterator: Iter) -> Iter:
        """A new iterator of the same extent."""
        self.count += 1
        return Iter(f"{self.prefix}{self.count}", iterator.extent)


def renewed(product: Product, names: Names) -> Product:
    """The product with summed iterators of its own."""
    mapping = {i: names.fresh(i) for i in product.summed}
    renamed = product.moved(dict(mapping.items()))
    return replace(renamed, summed=tuple(mapping.values()))


@dataclass
class Expander:
    """Expands scalar terms. ``known`` gives the expansion of a read, or ``None`` where it stays a read.

    Pieces that lie side by side along one of the ``fixed`` iterators stay together: apart, each would be computed for
    all of them.
    """

    names: Names
    known: Callable[[Read], Polynomial | None]
    fixed: frozenset[Iter] = frozenset()
    _found: dict[Scalar, Polynomial | None] = field(default_factory=dict)

    def expand(self, root: Scalar) -> Polynomial | None:
        """The polynomial of a term; ``None`` where it is a function of something, or too long."""
        for term in postorder(root):
            if term not in self._found:
                self._found[term] = self._one(term)
        return self._found[root]

    def is_known(self, term: Scalar) -> bool:
        """Whether a term that was met is a polynomial."""
        return self._found.get(term) is not None

    def _one(self, term: Scalar) -> Polynomial | None:
        inner = [self._found[c] for c in children(term)]
        match term:
            case Const():
                return (Product((), (term,)),)
            case Read():
                expansion = self.known(term)
                return (Product((), (term,)),) if expansion is None else expansion
            case Cast():
                return self._cast(term, inner[0])
            case Apply() if not (term.dtype.is_float or term.dtype.is_complex):
                return None
            case Apply(function="add" | "sub"):
                return self._sum(term, inner)
            case Apply(function="neg"):
                return self._scaled(inner[0], const(-1, term.dtype))
            case Apply(function="mul"):
                return self._product(inner)
            case Apply(function="div"):
                return self._quotient(term, inner)
            case Reduce(monoid="sum"):
                return self._summed(inner[0], term.iters)
            case Select() if is_literal(term.outside, 0):
                return self._guarded(inner[0], term.guard)
            case Select():
                return self._pieces(term)
            case _:
                return None

    def _sum(self, term: Apply, inner: Sequence[Polynomial | None]) -> Polynomial | None:
        parts = [p for p in inner if p is not None]
        if len(parts) < len(inner):
            return None
        if term.function == "sub":
            second = self._scaled(parts[1], const(-1, term.dtype))
            assert second is not None
            parts = [parts[0], second]
        return _bounded(tuple(p for part in parts for p in part))

    def _cast(self, term: Cast, inner: Polynomial | None) -> Polynomial | None:
        """Real products as complex ones; other conversions are functions."""
        if inner is None or not term.dtype.is_complex or term.value.dtype is not term.dtype.real:
            return None
        return tuple(replace(p, factors=tuple(_as_complex(f, term.dtype) for f in p.factors)) for p in inner)

    def _scaled(self, inner: Polynomial | None, factor: Scalar) -> Polynomial | None:
        return None if inner is None else tuple(replace(p, factors=(factor, *p.factors)) for p in inner)

    def _product(self, inner: Sequence[Polynomial | None]) -> Polynomial | None:
        total: Polynomial = (Product((), ()),)
        for part in inner:
            if part is None:
                return None
            if len(total) * len(part) > MOST_PRODUCTS:
                return None
            total = tuple(self._joined(a, b) for a in total for b in part)
        return total

    def _joined(self, a: Product, b: Product) -> Product:
        if b.summed:
            b = renewed(b, self.names)
        return Product((*a.summed, *b.summed), (*a.factors, *b.factors))

    def _quotient(self, term: Apply, inner: Sequence[Polynomial | None]) -> Polynomial | None:
        return self._scaled(inner[0], Apply("reciprocal", (term.args[1],)))

    def _summed(self, inner: Polynomial | None, iters: Iterable[Iter]) -> Polynomial | None:
        if inner is None:
            return None
        made = [_sum_over(p, tuple(iters)) for p in _without_zeros(inner)]
        kept = tuple(renewed(p, self.names) for p in made if p is not None)
        return kept if len(kept) == len(made) else None

    def _guarded(self, inner: Polynomial | None, guard: Guard) -> Polynomial | None:
        if inner is None:
            return None
        return tuple(replace(p, factors=guarded(p.factors, guard)) for p in inner)

    def _pieces(self, term: Select) -> Polynomial | None:
        if isinstance(term.inside, Const) and isinstance(term.outside, Const):
            return (Product((), (term,)),)
        if len(term.guard.bounds) != 1:
            return None
        (bound,) = term.guard.bounds
        together = not self.fixed.isdisjoint(_bound_iters(bound))
        parts: list[Polynomial] = []
        for where, piece in pieces(term) or ():
            part = self._guarded(self._found[piece], where)
            if part is None:
                return None
            part = tuple(p for p in _without_zeros(part) if not is_empty(p))
            if part:
                parts.append(part)
        if (together and len(parts) > 1) or sum(map(len, parts)) > MOST_PRODUCTS:
            return None
        return tuple(renewed(p, self.names) for part in parts for p in part) or None


def _as_complex(factor: Scalar, dtype: DType) -> Scalar:
    """A real factor as a complex one; guards stay outside."""
    if isinstance(factor, Const):
        return const(factor.value, dtype)
    if isinstance(factor, Select) and is_literal(factor.outside, 0):
        return Select(factor.guard, _as_complex(factor.inside, dtype), const(0, dtype))
    return Cast(dtype, factor)


def _sum_over(product: Product, iters: tuple[Iter, ...]) -> Product | None:
    """The sum of a product; ``None`` where it has to be multiplied by an extent that is known only at run time.

    An iterator that it does not read multiplies it by its extent, so that some factor reads each summed iterator.
    """
    read = frozenset(product.iterators())
    idle = [i.extent for i in iters if i not in read]
    if not all(isinstance(n, int) for n in idle):
        return None
    count = prod(n for n in idle if isinstance(n, int))
    factors = product.factors if count == 1 else (const(count, product.factors[0].dtype), *product.factors)
    return Product((*product.summed, *(i for i in iters if i in read)), factors)


def is_empty(product: Product) -> bool:
    """Whether the guards of a product contradict each other: it is zero everywhere."""
    spans: dict[Iter, tuple[int, int]] = {}
    for factor in product.factors:
        for bound in factor.guard.bounds if isinstance(factor, Select) and is_literal(factor.outside, 0) else ():
            for iterator in _bound_iters(bound):
                found = span(bound, iterator)
                if found is not None and isinstance(iterator.extent, int):
                    low, high = spans.get(iterator, (0, iterator.extent))
                    spans[iterator] = max(low, found[0]), min(high, found[1])
    return any(low >= high for low, high in spans.values())


def span(bound: Bound, iterator: Iter) -> tuple[int, int] | None:
    """The values of an iterator for which ``low <= iterator + offset < high``, where those are numbers."""
    slope = bound.value.coefficient(iterator).constant
    ends = bound.low.constant, bound.high.constant
    if slope not in (1, -1) or ends[0] is None or ends[1] is None:
        return None
    offset = (bound.value - slope * iterator).constant
    if offset is None:
        return None
    start, end = ends[0] - offset, ends[1] - offset
    return (start, end) if slope == 1 else (1 - end, 1 - start)


def _without_zeros(polynomial: Polynomial) -> Polynomial:
    """The products that are not zero whatever is read, or one that is."""
    kept = tuple(p for p in polynomial if not any(is_literal(_inside(f), 0) for f in p.factors))
    return kept or polynomial[:1]


def _inside(factor: Scalar) -> Scalar:
    return factor.inside if isinstance(factor, Select) and is_literal(factor.outside, 0) else factor


def _bounded(polynomial: Polynomial) -> Polynomial | None:
    return polynomial if len(polynomial) <= MOST_PRODUCTS else None


def guarded(factors: tuple[Scalar, ...], guard: Guard) -> tuple[Scalar, ...]:
    """Factors under a guard with zero outside: each factor takes the bounds on its own iterators.

    A bound that no factor can take becomes a factor of its own: one where it holds, zero elsewhere.
    """
    left = list(guard.bounds)
    found: list[Scalar] = []
    for factor in factors:
        own = set(free_iters(factor))
        taken = tuple(b for b in guard.bounds if _bound_iters(b) and _bound_iters(b) <= own)
        found.append(_under(factor, taken))
        left = [b for b in left if b not in taken]
    if left:
        one = const(1, factors[0].dtype)
        found.append(_under(one, tuple(left)))
    return tuple(found)


def _bound_iters(bound: Bound) -> set[Iter]:
    return {a for i in (bound.low, bound.value, bound.high) for a in walk_atoms(i) if isinstance(a, Iter)}


def _under(factor: Scalar, bounds: tuple[Bound, ...]) -> Scalar:
    if not bounds:
        return factor
    if isinstance(factor, Select) and is_literal(factor.outside, 0):
        bounds = tuple(dict.fromkeys((*factor.guard.bounds, *bounds)))
        factor = factor.inside
    ordered = sorted(bounds, key=lambda b: (b.value.text, b.low.text, b.high.text))
    return Select(Guard(tuple(ordered)), factor, const(0, factor.dtype))


def without(factor: Scalar, bound: Bound) -> Scalar:
    """The factor without a bound that holds from now on."""
    if not isinstance(factor, Select) or bound not in factor.guard.bounds:
        return factor
    left = Guard(tuple(b for b in factor.guard.bounds if b is not bound))
    return select(left, factor.inside, const(0, factor.dtype))


def is_indicator(factor: Scalar) -> bool:
    """Whether a factor is one where a guard holds and zero elsewhere."""
    return isinstance(factor, Select) and isinstance(factor.inside, Const) and is_literal(factor.outside, 0)


def read_of(factor: Scalar) -> Read | None:
    """The read that a factor is, perhaps under a guard."""
    inner = factor.inside if isinstance(factor, Select) and is_literal(factor.outside, 0) else factor
    return inner if isinstance(inner, Read) else None


def uses(factor: Scalar, iterator: Iter) -> bool:
    """Whether an iterator decides what a factor is."""
    return any(iterator in walk_atoms(i) for t in postorder(factor) for i in own_indices(t))
