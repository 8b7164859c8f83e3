"""Constructors that simplify what is proved, and the builder that passes and the frontend write programs with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tpopt.ir.bounds import outside, within
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Index, IndexLike, Iter, Size, index, size
from tpopt.ir.stages import Compute, Stage
from tpopt.ir.terms import (
    Apply,
    Bound,
    Guard,
    Position,
    Reduce,
    Scalar,
    ScalarLike,
    Select,
    Tensor,
    as_scalar,
    cast,
    const,
)

FALSE = Bound(index(1), index(0), index(1))


def guard(*bounds: tuple[IndexLike, IndexLike, IndexLike]) -> Guard:
    """A guard from ``(low, value, high)`` triples: proved ones drop, a refuted one makes the whole guard false."""
    kept: dict[Bound, None] = {}
    for low, value, high in bounds:
        if within(value, low, high):
            continue
        if outside(value, low, high):
            return Guard((FALSE,))
        v, lo, hi = index(value), index(low), index(high)
        kept[Bound(lo - v.offset, v - v.offset, hi - v.offset)] = None
    return Guard(tuple(sorted(kept, key=lambda b: (b.value.text, b.low.text, b.high.text))))


def select(condition: Guard, inside: Scalar, outside_: Scalar) -> Scalar:
    """:class:`Select` unless the guard is proved or refuted."""
    if not condition.bounds:
        return inside
    if condition.bounds == (FALSE,):
        return outside_
    return inside if inside is outside_ else Select(condition, inside, outside_)


def apply(name: str, *args: ScalarLike, dtype: DType | None = None) -> Scalar:
    """``Apply``; Python numbers take the type of the first operand that is a term (or ``dtype``)."""
    known = dtype or next(a.dtype for a in args if not isinstance(a, (bool, int, float, complex)))
    return Apply(name, tuple(as_scalar(a, known) for a in args))


def where(condition: Scalar, yes: ScalarLike, no: ScalarLike) -> Scalar:
    """``yes`` where the bool term holds, else ``no``; at least one branch is a term."""
    known = next(a.dtype for a in (yes, no) if not isinstance(a, (bool, int, float, complex)))
    return Apply("where", (condition, as_scalar(yes, known), as_scalar(no, known)))


def reduce(monoid: str, iters: Sequence[Iter], *bodies: Scalar, pick: int = 0) -> Scalar:
    """``Reduce``; the body itself when nothing is reduced and the monoid is plain."""
    if not iters and len(bodies) == 1:
        return bodies[0]
    return Reduce(monoid, tuple(iters), tuple(bodies), pick)


def total(iters: Sequence[Iter], body: Scalar) -> Scalar:
    """Sum over iterators."""
    return reduce("sum", iters, body)


def position(where_: IndexLike, dtype: DType = DType.I64) -> Scalar:
    """The value of an index as a scalar of ``dtype``; a literal where it is known."""
    known = index(where_).constant
    if known is not None:
        return const(known, dtype)
    return cast(Position(index(where_)), dtype)


def iters(prefix: str, extents: Iterable[IndexLike]) -> tuple[Iter, ...]:
    """``prefix0, prefix1, …`` over the given extents."""
    return tuple(Iter(f"{prefix}{n}", size(e)) for n, e in enumerate(extents))


def tensor(name: str, shape: Iterable[IndexLike], dtype: DType) -> Tensor:
    """A dense row-major tensor with canonical extents."""
    return Tensor(name, tuple(size(e) for e in shape), dtype)


def compute(name: str, shape: Sequence[IndexLike], body: Callable[..., Scalar]) -> Compute:
    """A single-output Compute: ``body`` receives one iterator (``i0, i1, …``) for each axis."""
    loops = iters("i", shape)
    term = body(*loops)
    return Compute((tensor(name, shape, term.dtype),), loops, (term,))


class Builder:
    """Collects stages and hands out unused names.

    >>> b = Builder(); y = b.compute("y", (4,), lambda i: x[i] * 2.0)
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.stages: list[Stage] = []
        self._taken = dict.fromkeys(taken)
        self._next: dict[str, int] = {}

    def name(self, base: str) -> str:
        """``base`` or ``base_1``, ``base_2``, …: the first that is free; it is taken from then on."""
        candidate, number = base, self._next.get(base, 0)
        while candidate in self._taken:
            number += 1
            candidate = f"{base}_{number}"
        self._next[base] = number
        self._taken[candidate] = None
        return candidate

    def add(self, stage: Stage) -> Stage:
        """Appends a finished stage (its outputs' names came from :meth:`name`)."""
        self.stages.append(stage)
        return stage

    def compute(self, base: str, shape: Sequence[IndexLike], body: Callable[..., Scalar]) -> Tensor:
        """Adds ``out[i0, i1, …] = body(i0, i1, …)`` and returns ``out``."""
        stage = compute(self.name(base), shape, body)
        self.add(stage)
        return stage.outs[0]

    def compute_many(
        self, base: str, shape: Sequence[IndexLike], body: Callable[..., Sequence[Scalar]]
    ) -> tuple[Tensor, ...]:
        """Adds one stage with several outputs that share its loops."""
        loops = iters("i", shape)
        terms = tuple(body(*loops))
        outs = tuple(tensor(self.name(base), shape, t.dtype) for t in terms)
        self.add(Compute(outs, loops, terms))
        return outs


def linear(indices: Sequence[IndexLike], shape: Sequence[Size]) -> Index:
    """Row-major position of ``indices`` in ``shape``."""
    flat = index(0)
    for i, extent in zip(indices, shape, strict=True):
        flat = flat * extent + i
    return flat


def unravel(flat: IndexLike, shape: Sequence[Size]) -> tuple[Index, ...]:
    """Indices of a row-major position, simplified."""
    rest, found = index(flat), []
    for axis in range(len(shape) - 1, 0, -1):
        found.append(rest % shape[axis])
        rest = rest // shape[axis]
    return (rest, *reversed(found)) if shape else ()
