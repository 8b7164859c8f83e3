"""Sampling at positions that are data: tables of positions and weights for each point, then a sum over taps."""

from __future__ import annotations

from dataclasses import dataclass

from tpopt.frontend.context import Context
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.taps import Taps, clamped, cubic_weight, linear_weight, resample
from tpopt.ir import DType, Index, Iter, Scalar, Size, Tensor, apply, cast, index, position, where
from tpopt.ir.terms import const

lowers = Lowerings()
LINEAR, NEAREST, CUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2
_TAPS = {LINEAR: 2, NEAREST: 1, CUBIC: 4}


@dataclass(frozen=True)
class Axis:
    """How coordinates in ``-1 … 1`` become positions on an axis of that ``extent``."""

    extent: Size
    padding: int
    align: bool
    kind: DType

    @property
    def last(self) -> Scalar:
        """The last position, as a number."""
        return position(index(self.extent) - 1, self.kind)

    def point(self, coordinate: Scalar) -> Scalar:
        """The position that a coordinate means, before padding."""
        shifted = apply("add", cast(coordinate, self.kind), 1)
        if self.align:
            return apply("mul", shifted, apply("div", self.last, 2.0))
        return apply("div", apply("sub", apply("mul", shifted, position(self.extent, self.kind)), 1), 2.0)

    def padded(self, point: Scalar) -> Scalar:
        """The position that is read instead of one outside; itself where outside counts as zero."""
        if self.padding == ZEROS:
            return point
        return clamped(self._reflected(point) if self.padding == REFLECTION else point, 0, self.last)

    def _reflected(self, point: Scalar) -> Scalar:
        low = 0.0 if self.align else -0.5
        span = self.last if self.align else position(self.extent, self.kind)
        distance = apply("abs", apply("sub", point, low))
        safe = apply("max", span, 1.0)
        rest = apply("fmod", distance, safe)
        odd = apply("ne", apply("fmod", apply("floor", apply("div", distance, safe)), 2.0), 0.0)
        back = apply("add", where(odd, apply("sub", safe, rest), rest), low)
        return where(apply("eq", span, 0.0), 0.0, back)

    def tap(self, point: Scalar, t: Iter, mode: int) -> tuple[Scalar, Scalar]:
        """Tap ``t`` around a point: its position (integer, perhaps outside) and its weight."""
        if mode == NEAREST:
            return cast(apply("round", self.padded(point)), DType.I64), const(1, self.kind)
        if mode == LINEAR:
            at = self.padded(point)
            base = apply("floor", at)
            return apply("add", cast(base, DType.I64), position(t)), linear_weight(apply("sub", at, base), t)
        base = apply("floor", point)
        neighbour = self.padded(apply("add", base, position(index(t) - 1, self.kind)))
        return cast(neighbour, DType.I64), cubic_weight(apply("sub", point, base), t)

    def within(self, place: Scalar) -> Scalar:
        """Whether an integer position lies on the axis."""
        return apply("and", apply("ge", place, 0), apply("lt", place, position(self.extent)))


def _axis_taps(ctx: Context, grid: Tensor, component: int, form: Axis, mode: int) -> Taps:
    shape = [*grid.shape[:-1], _TAPS[mode]]

    def tap(*i: Iter) -> tuple[Scalar, Scalar]:
        where_: list[Index] = [*map(index, i[:-1]), index(component)]
        return form.tap(form.point(grid.at(where_)), i[-1], mode)

    def place(*i: Iter) -> Scalar:
        return clamped(tap(*i)[0], 0, position(index(form.extent) - 1))

    def weight(*i: Iter) -> Scalar:
        at, value = tap(*i)
        return where(form.within(at), value, 0.0)

    needed = mode != NEAREST or form.padding == ZEROS
    positions = ctx.compute(shape, place, "positions")
    weights = ctx.compute(shape, weight, "weights") if needed else None
    return Taps(form.extent, _TAPS[mode], positions, weights, lambda i: (index(i[0]), *map(index, i[2:])))


def _sample(ctx: Context, x: Tensor, grid: Tensor, mode: int, padding: int, align: bool) -> Tensor:
    rank = x.rank - 2
    if mode == CUBIC and rank != 2:
        raise ctx.refuse("cubic sampling is of two axes")
    kind = wide(x.dtype)
    axes = [Axis(e, padding, align, kind) for e in x.shape[2:]]
    return resample(ctx, x, [_axis_taps(ctx, grid, rank - 1 - d, form, mode) for d, form in enumerate(axes)])


@lowers("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(ctx: Context, x: Tensor, grid: Tensor, mode: int, padding: int, align: bool) -> Tensor:
    """``x`` at the coordinates in ``grid`` (last axis of ``x`` first); linear, nearest and cubic, every padding."""
    return _sample(ctx, x, grid, mode, padding, align)


@lowers("aten.affine_grid_generator.default")
def affine_grid(ctx: Context, theta: Tensor, _shape: object, align: bool) -> Tensor:
    """``sum[k]{theta[n,j,k] * (coordinates, 1)[k]}`` at the centers of cells, or at corners with ``align``."""
    extents = ctx.out.shape[1:-1]
    kind = wide(ctx.dtype)

    def coordinate(i: Iter, extent: Size) -> Scalar:
        count = index(extent) - 1 if align else index(extent)
        above = position(index(i) * 2 - index(extent) + 1, kind)
        below = apply("max", position(count, kind), 1.0) if align else position(count, kind)
        return apply("div", above, below)

    def body(n: Iter, *i: Iter) -> Scalar:
        *points, j = i
        value = cast(theta[n, j, len(extents)], kind)
        for k, (p, e) in enumerate(zip(reversed(points), reversed(extents), strict=True)):
            value = apply("add", value, apply("mul", cast(theta[n, j, k], kind), coordinate(p, e)))
        return cast(value, ctx.dtype)

    return ctx.pointwise(body)
