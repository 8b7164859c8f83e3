"""Where the windows of a convolution or a pooling lie along one axis, seen from either side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from tpopt.frontend.numerics import numbers
from tpopt.ir import Guard, Index, Iter, Scalar, Size, Tensor, ceildiv, floordiv, guard, index, iters, mod, select, size
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import const

Triple = tuple[IndexLike, IndexLike, IndexLike]


@dataclass(frozen=True)
class Window:
    """Tap ``r`` of window ``p`` touches position ``stride*p + dilation*r - before`` of an axis of that ``extent``.

    ``taps`` is the length of a window, ``count`` the number of windows.
    """

    extent: Size
    count: Size
    taps: Size
    stride: int = 1
    dilation: int = 1
    before: int = 0

    def position(self, p: IndexLike, r: IndexLike) -> Index:
        """What tap ``r`` of window ``p`` touches, perhaps outside the axis."""
        return index(p) * self.stride + index(r) * self.dilation - self.before

    def inside(self, p: IndexLike, r: IndexLike) -> Triple:
        """Bound: the touched position lies on the axis."""
        return 0, self.position(p, r), self.extent

    @property
    def period(self) -> int:
        """Two taps that touch one position differ by a multiple of this."""
        return self.stride // gcd(self.stride, self.dilation)

    @property
    def covers(self) -> Size:
        """No position is touched by more windows than this."""
        return size(ceildiv(self.taps, self.period))

    def cover(self, y: IndexLike, t: IndexLike) -> Cover:
        """The ``t``-th window and tap that touch ``y``, with bounds that hold where there is one.

        Solves ``stride*p + dilation*r = y + before`` for ``p`` and ``r``: taps repeat with :attr:`period`, and the
        first is the solution of a congruence, so no position is visited in vain but for the rounding of ``covers``.
        """
        common, target = gcd(self.stride, self.dilation), index(y) + self.before
        inverse = pow(self.dilation // common, -1, self.period) if self.period > 1 else 0
        first = mod(floordiv(target, common) * inverse, self.period)
        tap = first + index(t) * self.period
        window = floordiv(target - first * self.dilation, self.stride) - index(t) * (self.dilation // common)
        if self.dilation == 1:
            window = floordiv(target, self.stride) - t
        solvable: list[Triple] = [(0, mod(target, common), 1)] if common > 1 else []
        return Cover(window, tap, ((0, window, self.count), *solvable), (0, tap, self.taps))


@dataclass(frozen=True)
class Cover:
    """A window and a tap over some position; they exist where ``within`` holds and the tap satisfies ``real``."""

    window: Index
    tap: Index
    within: tuple[Triple, ...]
    real: Triple


def walk(prefix: str, extents: Sequence[Size]) -> tuple[tuple[Index, ...], tuple[Iter, ...]]:
    """An index for each extent, and the iterators in them: an extent of 1 needs none."""
    every = iters(prefix, extents)
    return tuple(index(0 if i.extent == 1 else i) for i in every), tuple(i for i in every if i.extent != 1)


def windows(
    extents: Sequence[Size],
    counts: Sequence[Size],
    taps: Sequence[Size],
    stride: object,
    before: object,
    dilation: object = 1,
) -> list[Window]:
    """One :class:`Window` for each axis; stride, padding and dilation are numbers or lists as torch takes them."""
    rank = len(extents)
    kinds = zip(
        extents, counts, taps, numbers(stride, rank, "stride"), numbers(dilation, rank, "dilation"),
        numbers(before, rank, "padding"), strict=True,
    )  # fmt: skip
    return [Window(*k) for k in kinds]


def touch(
    source: Tensor,
    lead: Sequence[IndexLike],
    along: Sequence[Window],
    p: Sequence[IndexLike],
    r: Sequence[IndexLike],
    outside: Scalar | None = None,
) -> Scalar:
    """``source`` under taps ``r`` of windows ``p``; ``outside`` (zero) where a tap leaves the tensor."""
    where = [w.position(a, b) for w, a, b in zip(along, p, r, strict=True)]
    fill = const(0, source.dtype) if outside is None else outside
    return select(inside(along, p, r), source.at([*map(index, lead), *where]), fill)


def inside(along: Sequence[Window], p: Sequence[IndexLike], r: Sequence[IndexLike]) -> Guard:
    """Holds where no tap leaves the tensor."""
    return guard(*(w.inside(a, b) for w, a, b in zip(along, p, r, strict=True)))


def covers(along: Sequence[Window], y: Sequence[IndexLike], t: Sequence[IndexLike]) -> list[Cover]:
    """:meth:`Window.cover` along every axis."""
    return [w.cover(a, b) for w, a, b in zip(along, y, t, strict=True)]


def exists(found: Sequence[Cover]) -> Guard:
    """Holds where every axis has its window and its tap."""
    return guard(*(b for c in found for b in (*c.within, c.real)))
