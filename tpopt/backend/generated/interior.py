"""Tiles within which every guard holds: most of an image's, whose code needs to ask for nothing.

A guard with bounds on sums of iterators (a convolution's padding, the last tiles of a transform) holds in a whole tile
where it holds at the corners of the tile: that is asked once, and the tile runs without the guard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

from tpopt.backend.generated.plan import Case, Nest, Sweep, Work
from tpopt.backend.generated.sizes import extent
from tpopt.ir import Guard, Index, Iter, Reduce, Scalar, Select, index
from tpopt.ir.bounds import interval
from tpopt.ir.index import Atom, IndexLike, substitute
from tpopt.ir.walk import postorder, rebuild

MOST_TERMS: Final = 1_000
"""Terms of a nest whose code is written twice, counted for each step of a tile: more take long to build."""


@dataclass(frozen=True)
class Interior:
    """``work`` is a nest's without the guards that hold in a tile where each index of ``least`` is at least its number.

    The indices are over the first points of a tile.
    """

    work: Work
    least: tuple[tuple[Index, int], ...]


def interior(nest: Nest) -> Interior | None:
    """What tiles inside all guards run; ``None`` where there are no such guards, or no such tiles."""
    terms = postorder(*nest.work.bodies)
    if len(terms) * prod(s.count for s in nest.sweeps.values()) > MOST_TERMS:
        return None
    guards = dict.fromkeys(t.guard for t in terms if isinstance(t, Select))
    guards.update(dict.fromkeys(c.guard for c in nest.work.cases if c.guard is not None))
    corners = _Corners(nest, {i: extent(i) for t in terms if isinstance(t, Reduce) for i in t.iters})
    asked = {g: found for g in guards if (found := corners.least(g)) is not None}
    if not asked or not all(corners.may_hold(i, low) for found in asked.values() for i, low in found):
        return None

    def one(term: Scalar) -> Scalar:
        return term.inside if isinstance(term, Select) and term.guard in asked else term

    cases = tuple(
        Case(tuple(rebuild(b, one) for b in c.bodies), c.where, None if c.guard in asked else c.guard)
        for c in nest.work.cases
    )
    least = dict.fromkeys(pair for found in asked.values() for pair in found)
    return Interior(Work(nest.work.outs, nest.work.loops, cases), tuple(least))


@dataclass(frozen=True)
class _Corners:
    """The extremes of indices within a tile; ``summed`` are the reduced iterators, which run from end to end."""

    nest: Nest
    summed: Mapping[Iter, int]

    def least(self, guard: Guard) -> tuple[tuple[Index, int], ...] | None:
        """The guard as indices at first points that are at least a number; ``None`` where it is no such guard."""
        found: list[tuple[Index, int]] = []
        for bound in guard.bounds:
            low, high = bound.low.constant, bound.high.constant
            if (
                low is None
                or high is None
                or any(len(a) > 1 or not isinstance(a[0], Iter) for _, a in _moving(bound.value))
            ):
                return None
            found.append((self._extreme(bound.value), low))
            found.append((self._extreme(-bound.value), 1 - high))
        return tuple(found)

    def may_hold(self, where: Index, low: int) -> bool:
        """Whether some tile may satisfy a condition."""
        starts: dict[Atom, IndexLike] = {
            i: index(Iter(f"{i.name}_first", max(1, extent(i) - self._span(i) + 1))) for i in self.nest.work.loops
        }
        high = interval(substitute(where, starts))[1]
        return high is None or high >= low

    def _extreme(self, value: Index) -> Index:
        """The least value of an index within a tile, over its first points."""
        ends: dict[Atom, IndexLike] = {}
        for coefficient, (iterator,) in _moving(value):
            assert isinstance(iterator, Iter)
            size = self.summed.get(iterator, self._span(iterator))
            first = index(0 if iterator in self.summed else iterator)
            ends[iterator] = first if coefficient > 0 else first + (size - 1)
        return substitute(value, ends)

    def _span(self, iterator: Iter) -> int:
        """Points of a loop in one tile; one of a loop that stages share."""
        if iterator in self.nest.work.loops[: self.nest.depth]:
            return 1
        return min(self.nest.sweeps.get(iterator, Sweep()).span, extent(iterator))


def _moving(value: Index) -> list[tuple[int, tuple[Atom, ...]]]:
    """The terms of an index that are no number."""
    return [(c, atoms) for c, atoms in value.terms if atoms]
