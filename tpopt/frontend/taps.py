"""Interpolation as a sum over taps: a table of positions and a table of weights for each axis that is resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context
from tpopt.frontend.numerics import products
from tpopt.frontend.windows import walk
from tpopt.ir import DType, Index, Iter, Lookup, Scalar, Size, Tensor, apply, cast, guard, index, select
from tpopt.ir.terms import const

CUBIC = -0.75
"""Keys' parameter, as torch fixes it (R. Keys, Cubic convolution interpolation, 1981)."""

OnePoint = Callable[[tuple[Iter, ...]], tuple[Index, ...]]


@dataclass(frozen=True)
class Taps:
    """Positions and weights, both ``[points…, taps]``; each position is at least 0 and below ``extent``.

    ``points`` picks the table's leading indices from the loops of the result. Without tables the axis is left alone.
    """

    extent: Size
    count: int = 1
    positions: Tensor | None = None
    weights: Tensor | None = None
    points: OnePoint | None = None

    def at(self, own: Iter, i: tuple[Iter, ...], t: Index) -> tuple[Index, tuple[Scalar, ...]]:
        """The position that tap ``t`` reads for the result's ``i`` (``own`` on this axis), and its weight."""
        if self.positions is None:
            return index(own), ()
        lead = self.points(i) if self.points else (index(own),)
        where = Lookup(self.positions, (*lead, t), index(0), index(self.extent))
        return index(where), () if self.weights is None else (self.weights.at([*lead, t]),)


def resample(ctx: Context, x: Tensor, along: Sequence[Taps]) -> Tensor:
    """``sum[t…]{x[…, position…] * weight * …}`` over the last axes."""
    lead = x.rank - len(along)
    t, summed = walk("t", [a.count for a in along])

    def body(*i: Iter) -> Scalar:
        found = [a.at(own, i, k) for a, own, k in zip(along, i[lead:], t, strict=True)]
        read = x.at([*map(index, i[:lead]), *(f[0] for f in found)])
        weights = tuple(w for f in found for w in f[1])
        return cast(products(ctx.dtype, summed, read, *weights), ctx.dtype) if weights else read

    return ctx.compute(ctx.out.shape, body)


def clamped(value: Scalar, low: Scalar | int, high: Scalar) -> Scalar:
    """``min(max(value, low), high)``."""
    return apply("min", apply("max", value, low), high)


def linear_weight(fraction: Scalar, t: Iter) -> Scalar:
    """Weight of tap 0 or 1 at that distance behind tap 0."""
    return select(guard((0, t, 1)), apply("sub", 1, fraction), fraction)


def cubic_weight(fraction: Scalar, t: Iter) -> Scalar:
    """Weight of taps 0 … 3, of which tap 1 lies ``fraction`` in front of the point."""
    one = const(1, fraction.dtype)
    near, far = _near(fraction), _far(apply("add", fraction, 1))
    ahead = apply("sub", one, fraction)
    near_ahead, far_ahead = _near(ahead), _far(apply("add", ahead, 1))
    front = select(guard((0, t, 1)), far, near)
    back = select(guard((0, index(t) - 2, 1)), near_ahead, far_ahead)
    return select(guard((0, t, 2)), front, back)


def _near(d: Scalar) -> Scalar:
    """``(A+2)d³ - (A+3)d² + 1`` for a distance up to 1."""
    inner = apply("sub", apply("mul", d, CUBIC + 2), CUBIC + 3)
    return apply("add", apply("mul", inner, d, d), 1)


def _far(d: Scalar) -> Scalar:
    """``Ad³ - 5Ad² + 8Ad - 4A`` for a distance between 1 and 2."""
    inner = apply("add", apply("mul", apply("sub", apply("mul", d, CUBIC), 5 * CUBIC), d), 8 * CUBIC)
    return apply("sub", apply("mul", inner, d), 4 * CUBIC)


def float_kind(dtype: DType) -> DType:
    """The type that positions and weights are computed in for values of ``dtype``."""
    return DType.F64 if dtype is DType.F64 else DType.F32
