"""Pieces side by side along an index, as concatenation makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tpopt.ir import Const, Guard, Index, Scalar, Select, guard
from tpopt.ir.bounds import interval
from tpopt.ir.index import IndexLike
from tpopt.ir.walk import is_literal

MASK: Final = 1e4
"""A constant of that size is there to lose a comparison, not to be multiplied: it would drown what it is added to."""
Span = tuple[int, int]
"""From, and up to, values of an index."""


def pieces(term: Select) -> tuple[tuple[Guard, Scalar], ...] | None:
    """What a chain of selections by one index is made of: guards that exclude each other, and the term under each.

    ``select(0 <= k < 2, a, select(2 <= k < 5, b, c))`` is ``a`` for 0 and 1, ``b`` for 2 to 4, and ``c`` for what is
    left of the values that ``k`` can have; a zero is left out. ``None`` where those values are not known as numbers, or
    a piece is a mask.
    """
    where = term.guard.bounds[0].value
    low, high = interval(where)
    if low is None or high is None:
        return None
    left: list[Span] = [(low, high + 1)]
    found: list[tuple[Guard, Scalar]] = []
    rest: Scalar = term
    while isinstance(rest, Select) and (span := _span(rest, where)) is not None:
        found += [(_between(where, own), rest.inside) for own in _common(left, span)]
        if span[0] < span[1]:
            left = [*_common(left, (low, span[0])), *_common(left, (span[1], high + 1))]
        rest = rest.outside
    if rest is term:
        return None
    found += [(_between(where, own), rest) for own in left]
    if any(isinstance(t, Const) and not abs(t.value) < MASK for _, t in found):
        return None
    return tuple((g, t) for g, t in found if not is_literal(t, 0))


def _span(term: Select, where: Index) -> Span | None:
    """The values of an index for which a selection takes what is inside, where it goes by that index alone."""
    if len(term.guard.bounds) != 1:
        return None
    (bound,) = term.guard.bounds
    start, end = bound.low.constant, bound.high.constant
    return None if bound.value != where or start is None or end is None else (start, end)


def _common(spans: list[Span], other: Span) -> Iterator[Span]:
    for start, end in spans:
        own = max(start, other[0]), min(end, other[1])
        if own[0] < own[1]:
            yield own


def _between(where: IndexLike, span: Span) -> Guard:
    return guard((span[0], where, span[1]))
