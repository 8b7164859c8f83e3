"""Normalization over batches and over instances."""

from __future__ import annotations

from tpopt.frontend.context import Context
from tpopt.frontend.moments import affine, centered, count, moments, parameter
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Scalar, Tensor, apply, cast, index
from tpopt.ir.terms import const

lowers = Lowerings()


def _with_statistics(
    ctx: Context, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """``(x - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c]``."""

    def body(*i: Iter) -> Scalar:
        kind, c = wide(ctx.dtype), i[1]
        rstd = apply("rsqrt", apply("add", cast(var[c], kind), eps))
        return cast(affine(centered(x.at(i), mean[c], rstd), parameter(weight, c), parameter(bias, c)), ctx.dtype)

    return ctx.compute(ctx.out.shape, body)


def _over_batch(x: Tensor) -> tuple[Iter, ...]:
    return tuple(Iter(f"k{a}", e) for a, e in enumerate(x.shape) if a != 1)


def _batch_moments(ctx: Context, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    summed = _over_batch(x)
    return moments(ctx, [x.shape[1]], summed, lambda c: x.at([summed[0], c, *summed[1:]]), eps)


def _with_moments(
    ctx: Context, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor
) -> Tensor:
    def body(*i: Iter) -> Scalar:
        c = i[1]
        return cast(affine(centered(x.at(i), mean[c], rstd[c]), parameter(weight, c), parameter(bias, c)), ctx.dtype)

    return ctx.compute(ctx.out.shape, body)


def _saved(ctx: Context, k: int, source: Tensor | None) -> Tensor | None:
    """The ``k``-th result: a copy of ``source``, or torch's empty tensor."""
    out = ctx.outs[k] if ctx.used[k] else None
    if out is None:
        return None
    if source is None:
        return ctx.compute(out.shape, lambda *_: const(0, out.dtype), "saved")
    return ctx.compute(out.shape, lambda c: cast(source[c], out.dtype), "saved")


@lowers("aten.batch_norm.default")
def batch_norm(
    ctx: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    _momentum: float,
    eps: float,
    _cudnn: bool,
) -> Tensor:
    """With the given statistics, or with the batch's own when training or when there are none."""
    if mean is not None and var is not None and not training:
        return _with_statistics(ctx, x, weight, bias, mean, var, eps)
    return _with_moments(ctx, x, weight, bias, *_batch_moments(ctx, x, eps))


@lowers("aten._native_batch_norm_legit_no_training.default")
def native_no_training(
    ctx: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    _momentum: float,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """With the given statistics; the saved moments are empty."""
    return _with_statistics(ctx, x, weight, bias, mean, var, eps), _saved(ctx, 1, None), _saved(ctx, 2, None)


@lowers("aten._native_batch_norm_legit.no_stats")
def native_no_stats(
    ctx: Context, x: Tensor, weight: Tensor | None, bias: Tensor | None, _training: bool, _momentum: float, eps: float
) -> tuple[Tensor | None, ...]:
    """With the batch's own moments, which are results too."""
    mean, rstd = _batch_moments(ctx, x, eps)
    return _with_moments(ctx, x, weight, bias, mean, rstd), _saved(ctx, 1, mean), _saved(ctx, 2, rstd)


@lowers("aten._native_batch_norm_legit_functional.default")
def native_functional(
    ctx: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """The functional form of training: also the running statistics, moved towards the batch's."""
    if not training:
        out = _with_statistics(ctx, x, weight, bias, mean, var, eps)
        return out, _saved(ctx, 1, None), _saved(ctx, 2, None), mean, var
    own, rstd = _batch_moments(ctx, x, eps)
    n = count(_over_batch(x), own.dtype)

    def moved(running: Tensor, new: Scalar, c: Iter) -> Scalar:
        kept = apply("mul", cast(running[c], own.dtype), 1 - momentum)
        return cast(apply("add", kept, apply("mul", new, momentum)), running.dtype)

    def unbiased(c: Iter) -> Scalar:
        biased = apply("sub", apply("div", 1, apply("mul", rstd[c], rstd[c])), eps)
        return apply("mul", biased, apply("div", n, apply("sub", n, 1)))

    new_mean = ctx.compute(mean.shape, lambda c: moved(mean, own[c], c), "mean")
    new_var = ctx.compute(var.shape, lambda c: moved(var, unbiased(c), c), "var")
    return _with_moments(ctx, x, weight, bias, own, rstd), _saved(ctx, 1, own), _saved(ctx, 2, rstd), new_mean, new_var


@lowers("aten.instance_norm.default")
def instance_norm(
    ctx: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    use_input_stats: bool,
    _momentum: float,
    eps: float,
    _cudnn: bool,
) -> Tensor:
    """Each instance's channels with their own moments, or with the given statistics."""
    if not use_input_stats:
        if mean is None or var is None:
            raise ctx.refuse("instance_norm without input statistics needs running statistics")
        return _with_statistics(ctx, x, weight, bias, mean, var, eps)
    summed = tuple(Iter(f"k{a}", e) for a, e in enumerate(x.shape[2:]))
    own, rstd = moments(ctx, x.shape[:2], summed, lambda n, c: x.at([n, c, *summed]), eps)

    def body(*i: Iter) -> Scalar:
        n, c = i[:2]
        value = centered(x.at([index(k) for k in i]), own[n, c], rstd[n, c])
        return cast(affine(value, parameter(weight, c), parameter(bias, c)), ctx.dtype)

    return ctx.pointwise(body)
