"""Interpolation on a grid: nearest, linear and cubic, along one to three axes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from tpopt.frontend.context import Context
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.frontend.taps import Taps, clamped, cubic_weight, float_kind, linear_weight, resample
from tpopt.ir import DType, Index, Iter, Lookup, Scalar, Size, Tensor, apply, cast, index, position
from tpopt.ir.index import IndexLike
from tpopt.ir.program import Array

lowers = Lowerings()
_SAMPLED = 4096  # positions at which a formula for a run-time extent is compared with torch's rounding


def _fraction(scale: float, digits: int) -> Fraction:
    return Fraction(scale).limit_denominator(digits)


def _ratio(extent: Size, out: Size, scale: float | None) -> tuple[Size, Size]:
    """Input positions for each output position, as numerator and denominator."""
    if scale is not None and scale > 0:
        step = _fraction(scale, 1 << 20)
        return step.denominator, step.numerator
    for k in range(2, 17):
        if (index(extent) * k - out).constant == 0:
            return 1, k
        if (index(out) * k - extent).constant == 0:
            return k, 1
    return extent, out


def _rounded(extent: int, out: int, scale: float | None, shift: float) -> Array:
    """The positions torch reads: its own arithmetic, in f32."""
    step = np.float32(1 / scale) if scale is not None and scale > 0 else np.float32(extent) / np.float32(out)
    points = np.arange(out).astype(np.float32) + np.float32(shift)
    positions: Array = np.minimum(np.floor(points * step), extent - 1).astype(np.int64)
    return positions


def _nearest_axis(
    ctx: Context, extent: Size, out: Size, scale: float | None, *, middle: bool
) -> Taps | tuple[int, int]:
    """One axis: an exact ratio where it gives what torch's rounding gives, else a table."""
    if index(extent) is index(out) and scale in (None, 1.0):
        return Taps(extent)
    num, den = _ratio(extent, out, scale)
    shift = 0.5 if middle else 0.0
    if isinstance(num, int) and isinstance(den, int):
        known = isinstance(extent, int) and isinstance(out, int)
        n = out if isinstance(out, int) and known else _SAMPLED
        m = extent if isinstance(extent, int) and known else n * num // den + 1
        step = scale if scale is not None or known else den / num
        if np.array_equal(
            _rounded(m, n, step, shift),
            ((2 * np.arange(n) + 1) * num // (2 * den) if middle else np.arange(n) * num // den),
        ):
            return num, den
    if isinstance(extent, int) and isinstance(out, int):
        return Taps(
            extent, 1, ctx.table(f"{ctx.base}.positions", _rounded(extent, out, scale, shift)[:, None], DType.I64)
        )
    if scale is not None and scale > 0:
        raise ctx.refuse(f"nearest interpolation of a run-time extent by {scale}: the positions depend on rounding")
    return Taps(extent, 1, _rounded_stage(ctx, extent, out, shift))


def _rounded_stage(ctx: Context, extent: Size, out: Size, shift: float) -> Tensor:
    """The same positions computed at run time, for extents known only then."""
    kind = DType.F32

    def body(y: Iter, _t: Iter) -> Scalar:
        step = apply("div", position(extent, kind), position(out, kind))
        point = apply("floor", apply("mul", apply("add", position(y, kind), shift), step))
        return clamped(cast(point, DType.I64), 0, position(index(extent) - 1))

    return ctx.compute([out, 1], body, "positions")


def _nearest(ctx: Context, x: Tensor, scales: Sequence[float | None], *, middle: bool) -> Tensor:
    lead = x.rank - len(scales)
    along = [
        _nearest_axis(ctx, e, o, s, middle=middle)
        for e, o, s in zip(x.shape[lead:], ctx.out.shape[lead:], scales, strict=True)
    ]

    def place(own: Iter, form: Taps | tuple[int, int]) -> Index:
        if isinstance(form, tuple):
            num, den = form
            return (index(own) * 2 + 1) * num // (2 * den) if middle else index(own) * num // den
        if form.positions is None:
            return index(own)
        return index(Lookup(form.positions, (index(own), index(0)), index(0), index(form.extent)))

    def body(*i: Iter) -> Scalar:
        return x.at([*map(index, i[:lead]), *(place(own, form) for own, form in zip(i[lead:], along, strict=True))])

    return ctx.compute(ctx.out.shape, body)


def _weighted_axis(ctx: Context, extent: Size, out: Size, scale: float | None, *, align: bool, cubic: bool) -> Taps:
    """Tables of positions and weights from exact integer arithmetic: the point is ``numerator / denominator``."""
    if index(extent) is index(out) and (align or scale in (None, 1.0)):
        return Taps(extent)
    kind, last = float_kind(ctx.dtype), position(index(extent) - 1)
    num, den = _ratio(extent, out, scale)

    def point(y: IndexLike) -> tuple[Scalar, Scalar]:
        if align:
            return position(index(y) * (index(extent) - 1)), clamped(position(index(out) - 1), 1, position(out))
        above = position((index(y) * 2 + 1) * num - den)
        return above if cubic else apply("max", above, 0), position(index(den) * 2)

    def place(y: Iter, t: Iter) -> Scalar:
        above, below = point(y)
        return clamped(apply("add", apply("floordiv", above, below), position(index(t) - int(cubic))), 0, last)

    def weight(y: Iter, t: Iter) -> Scalar:
        above, below = point(y)
        fraction = apply("div", cast(apply("mod", above, below), kind), cast(below, kind))
        return cubic_weight(fraction, t) if cubic else linear_weight(fraction, t)

    count = 4 if cubic else 2
    return Taps(
        extent, count, ctx.compute([out, count], place, "positions"), ctx.compute([out, count], weight, "weights")
    )


def _weighted(ctx: Context, x: Tensor, scales: Sequence[float | None], *, align: bool, cubic: bool = False) -> Tensor:
    if not x.dtype.is_float:
        raise ctx.refuse(f"interpolation of {x.dtype} rounds in a way of its own")
    lead = x.rank - len(scales)
    axes = zip(x.shape[lead:], ctx.out.shape[lead:], scales, strict=True)
    return resample(ctx, x, [_weighted_axis(ctx, e, o, s, align=align, cubic=cubic) for e, o, s in axes])


def _register(rank: int, linear: str) -> None:
    def scales(listed: Sequence[float] | None) -> list[float | None]:
        return list(listed) if listed else [None] * rank

    def nearest(ctx: Context, x: Tensor, _extents: object, *given: float | None) -> Tensor:
        return _nearest(ctx, x, given, middle=False)

    def nearest_vec(ctx: Context, x: Tensor, _extents: object, given: Sequence[float] | None) -> Tensor:
        return _nearest(ctx, x, scales(given), middle=False)

    def exact(ctx: Context, x: Tensor, _extents: object, *given: float | None) -> Tensor:
        return _nearest(ctx, x, given, middle=True)

    def exact_vec(ctx: Context, x: Tensor, _extents: object, given: Sequence[float] | None) -> Tensor:
        return _nearest(ctx, x, scales(given), middle=True)

    def weighted(ctx: Context, x: Tensor, _extents: object, align: bool, *given: float | None) -> Tensor:
        return _weighted(ctx, x, given, align=align)

    def weighted_vec(ctx: Context, x: Tensor, _extents: object, align: bool, given: Sequence[float] | None) -> Tensor:
        return _weighted(ctx, x, scales(given), align=align)

    table: dict[str, tuple[Lowering, Lowering]] = {
        f"upsample_nearest{rank}d": (nearest, nearest_vec),
        f"_upsample_nearest_exact{rank}d": (exact, exact_vec),
    }
    table[f"upsample_{linear}{rank}d"] = (weighted, weighted_vec)
    for name, (plain, vec) in table.items():
        lowers(f"aten.{name}.default")(plain)
        lowers(f"aten.{name}.vec")(vec)


_register(1, "linear")
_register(2, "bilinear")
_register(3, "trilinear")


@lowers("aten.upsample_bicubic2d.default")
def bicubic(ctx: Context, x: Tensor, _extents: object, align: bool, *given: float | None) -> Tensor:
    """Keys' cubic convolution over four taps along each axis; positions beyond the edge read the edge."""
    return _weighted(ctx, x, given, align=align, cubic=True)


@lowers("aten.upsample_bicubic2d.vec")
def bicubic_vec(ctx: Context, x: Tensor, _extents: object, align: bool, given: Sequence[float] | None) -> Tensor:
    """The same with the scales in a list."""
    return _weighted(ctx, x, list(given) if given else [None, None], align=align, cubic=True)
