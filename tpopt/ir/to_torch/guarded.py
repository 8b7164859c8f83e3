"""``select(guard, tensor[indices], 0)``, perhaps converted to another type: what the factors of a convolution are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.ir.build import guard as build_guard
from tpopt.ir.build import select
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, Iter, walk_atoms
from tpopt.ir.terms import Bound, Cast, Const, Read, Scalar, Select, cast, const

Triple = tuple[Index, Index, Index]


@dataclass(frozen=True)
class Guarded:
    """A read of ``dtype``; zero where one of ``bounds`` fails."""

    bounds: tuple[Bound, ...]
    read: Read
    dtype: DType

    def at(self, indices: Sequence[Index], bounds: Sequence[Triple]) -> Scalar:
        """The same tensor read elsewhere, under other bounds."""
        inside = cast(Read(self.read.tensor, tuple(indices)), self.dtype)
        return select(build_guard(*bounds), inside, const(0, self.dtype))


def guarded(term: Scalar) -> Guarded | None:
    """A term as a guarded read; ``None`` where it is something else."""
    bounds: list[Bound] = []
    inner, dtype = term, term.dtype
    while not isinstance(inner, Read):
        if isinstance(inner, Select) and is_zero(inner.outside):
            bounds += inner.guard.bounds
            inner = inner.inside
        elif isinstance(inner, Cast) and inner.dtype.is_float and inner.value.dtype.is_float:
            inner = inner.value
        else:
            return None
    return Guarded(tuple(dict.fromkeys(bounds)), inner, dtype)


def is_zero(term: Scalar) -> bool:
    """Whether a term is a literal zero."""
    return isinstance(term, Const) and term.value == 0


def iterators(where: Index) -> set[Iter]:
    """Iterators that an index depends on."""
    return {a for a in walk_atoms(where) if isinstance(a, Iter)}


def bound_iterators(bounds: Sequence[Bound]) -> set[Iter]:
    """Iterators that bounds depend on."""
    return {i for b in bounds for where in (b.low, b.value, b.high) for i in iterators(where)}
