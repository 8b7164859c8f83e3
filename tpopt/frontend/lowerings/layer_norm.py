"""Normalization over the last axes, over groups of channels, and by the root mean square."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tpopt.frontend.context import Context
from tpopt.frontend.moments import affine, centered, count, moments, parameter
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Scalar, Tensor, apply, cast, index, total
from tpopt.ir.aten import torch_dtype

lowers = Lowerings()


def _stored(ctx: Context, k: int, source: Tensor, shift: int) -> Tensor | None:
    """The ``k``-th result where it is used: ``source`` with ``shift`` axes of extent 1 behind, in torch's type."""
    out = ctx.outs[k] if ctx.used[k] else None
    if out is None:
        return None
    rank = out.rank - shift
    return ctx.compute(out.shape, lambda *i: cast(source.at(i[:rank]), out.dtype), "saved")


def _layer_norm(
    ctx: Context, x: Tensor, shape: Sequence[object], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    kept = x.rank - len(shape)
    summed = tuple(Iter(f"k{a}", e) for a, e in enumerate(x.shape[kept:]))
    mean, rstd = moments(ctx, x.shape[:kept], summed, lambda *i: x.at([*i, *summed]), eps)

    def body(*i: Iter) -> Scalar:
        outer, last = i[:kept], i[kept:]
        value = centered(x.at(i), mean.at(outer), rstd.at(outer))
        return cast(affine(value, parameter(weight, *last), parameter(bias, *last)), ctx.dtype)

    return ctx.compute(ctx.out.shape, body), mean, rstd


@lowers("aten.layer_norm.default")
def layer_norm(
    ctx: Context,
    x: Tensor,
    shape: Sequence[object],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    _cudnn: bool,
) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last axes."""
    return _layer_norm(ctx, x, shape, weight, bias, eps)[0]


@lowers("aten.native_layer_norm.default")
def native_layer_norm(
    ctx: Context, x: Tensor, shape: Sequence[object], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor | None, ...]:
    """The same with its moments."""
    out, mean, rstd = _layer_norm(ctx, x, shape, weight, bias, eps)
    return out, _stored(ctx, 1, mean, len(shape)), _stored(ctx, 2, rstd, len(shape))


def _group_norm(
    ctx: Context, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    each = index(x.shape[1]) // groups
    members = Iter("c", each.constant if each.constant is not None else each)
    summed = (members, *(Iter(f"k{a}", e) for a, e in enumerate(x.shape[2:])))
    mean, rstd = moments(
        ctx,
        [x.shape[0], groups],
        summed,
        lambda n, g: x.at([index(n), index(g) * each + members, *map(index, summed[1:])]),
        eps,
    )

    def body(*i: Iter) -> Scalar:
        n, c = i[:2]
        value = centered(x.at(i), mean[n, index(c) // each], rstd[n, index(c) // each])
        return cast(affine(value, parameter(weight, c), parameter(bias, c)), ctx.dtype)

    return ctx.compute(ctx.out.shape, body), mean, rstd


@lowers("aten.group_norm.default")
def group_norm(
    ctx: Context, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, _cudnn: bool
) -> Tensor:
    """The same over each group of channels and all of space."""
    return _group_norm(ctx, x, groups, weight, bias, eps)[0]


@lowers("aten.native_group_norm.default")
def native_group_norm(
    ctx: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    _n: object,
    _c: object,
    _space: object,
    groups: int,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """The same with its moments."""
    out, mean, rstd = _group_norm(ctx, x, groups, weight, bias, eps)
    return out, _stored(ctx, 1, mean, 0), _stored(ctx, 2, rstd, 0)


def _rms_norm(
    ctx: Context, x: Tensor, shape: Sequence[object], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    kind, kept = wide(x.dtype), x.rank - len(shape)
    small = torch.finfo(torch_dtype(kind)).eps if eps is None else eps
    summed = tuple(Iter(f"k{a}", e) for a, e in enumerate(x.shape[kept:]))

    def inverse(*i: Iter) -> Scalar:
        value = cast(x.at([*i, *summed]), kind)
        mean = apply("div", total(summed, apply("mul", value, value)), count(summed, kind))
        return apply("rsqrt", apply("add", mean, small))

    rrms = ctx.compute(x.shape[:kept], inverse, "rrms")

    def body(*i: Iter) -> Scalar:
        value = apply("mul", cast(x.at(i), kind), rrms.at(i[:kept]))
        return cast(affine(value, parameter(weight, *i[kept:]), None), ctx.dtype)

    return ctx.compute(ctx.out.shape, body), rrms


@lowers("aten.rms_norm.default")
def rms_norm(ctx: Context, x: Tensor, shape: Sequence[object], weight: Tensor | None, eps: float | None) -> Tensor:
    """``x / sqrt(mean(x²) + eps) * weight`` over the last axes."""
    return _rms_norm(ctx, x, shape, weight, eps)[0]


@lowers("aten._fused_rms_norm.default")
def fused_rms_norm(
    ctx: Context, x: Tensor, shape: Sequence[object], weight: Tensor | None, eps: float | None
) -> tuple[Tensor | None, ...]:
    """The same with the reciprocal root mean square."""
    out, rrms = _rms_norm(ctx, x, shape, weight, eps)
    return out, _stored(ctx, 1, rrms, len(shape))
