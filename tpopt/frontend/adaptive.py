"""Windows that share an axis evenly: window ``p`` of ``count`` covers ``floor(p*n/count) … ceil((p+1)*n/count)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.ir import Guard, Index, Scalar, Size, ceildiv, floordiv, guard, index, position, size
from tpopt.ir.index import IndexLike


@dataclass(frozen=True)
class Adaptive:
    """One axis of an adaptive pooling; ``taps`` bounds the windows' lengths."""

    extent: Size
    count: Size
    taps: Size

    def start(self, p: IndexLike) -> Index:
        """First position of window ``p``."""
        return floordiv(index(p) * self.extent, self.count)

    def length(self, p: IndexLike) -> Index:
        """Positions in window ``p``."""
        return ceildiv((index(p) + 1) * self.extent, self.count) - self.start(p)

    def lengths(self, p: IndexLike) -> Scalar:
        """The same as a term."""
        return position(self.length(p))

    @staticmethod
    def at(along: Sequence[Adaptive], p: Sequence[IndexLike], r: Sequence[IndexLike]) -> tuple[list[Index], Guard]:
        """Positions under taps ``r`` of windows ``p``, and where the windows have that many taps."""
        where = [w.start(a) + b for w, a, b in zip(along, p, r, strict=True)]
        return where, guard(*((0, index(b), w.length(a)) for w, a, b in zip(along, p, r, strict=True)))


def adaptive(extents: Sequence[Size], counts: Sequence[Size]) -> list[Adaptive]:
    """One :class:`Adaptive` for each axis."""
    return [Adaptive(e, c, _longest(e, c)) for e, c in zip(extents, counts, strict=True)]


def _longest(extent: Size, count: Size) -> Size:
    """The longest window: exact where both extents are numbers, else an upper bound."""
    if isinstance(extent, int) and isinstance(count, int):
        return max((-(-(p + 1) * extent // count) - p * extent // count for p in range(count)), default=0)
    whole = floordiv(extent, count)
    if (whole * count - extent).constant == 0:
        return size(whole)
    return size(ceildiv(extent, count) + 1)
