"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable

from tpopt.frontend.context import Context, axis, broadcast
from tpopt.frontend.numerics import wide
from tpopt.frontend.promotion import one_function, pointwise
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Index, Iter, Scalar, Tensor, apply, cast, size, where
from tpopt.ir.index import index
from tpopt.ir.terms import Number

lowers = Lowerings()


def _bounded(value: Scalar, low: Number, high: Number) -> Scalar:
    return apply("min", apply("max", value, low), high)


def _scaled(value: Scalar, factor: Number) -> Scalar:
    return value if factor == 1 else apply("mul", value, factor)


@lowers("aten.relu.default")
def relu(ctx: Context, x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return ctx.pointwise(lambda *i: apply("max", x.at(i), 0))


@lowers("aten.hardtanh.default")
def hardtanh(ctx: Context, x: Tensor, low: Number = -1, high: Number = 1) -> Tensor:
    """``min(max(x, low), high)``."""
    return ctx.pointwise(lambda *i: _bounded(x.at(i), low, high))


@lowers("aten.relu6.default")
def relu6(ctx: Context, x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return hardtanh(ctx, x, 0, 6)


@lowers("aten.hardsigmoid.default")
def hardsigmoid(ctx: Context, x: Tensor) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6``."""
    return pointwise(ctx, lambda v: apply("div", _bounded(v + 3, 0, 6), 6), x)


@lowers("aten.hardswish.default")
def hardswish(ctx: Context, x: Tensor) -> Tensor:
    """``x * min(max(x + 3, 0), 6) / 6``."""
    return pointwise(ctx, lambda v: apply("div", v * _bounded(v + 3, 0, 6), 6), x)


@lowers("aten.leaky_relu.default")
def leaky_relu(ctx: Context, x: Tensor, slope: Number = 0.01) -> Tensor:
    """``x`` where positive, else ``slope * x``."""
    return pointwise(ctx, lambda v: where(apply("gt", v, 0), v, apply("mul", v, slope)), x)


@lowers("aten.rrelu.default")
def rrelu(ctx: Context, x: Tensor, *rest: object) -> Tensor:
    """Leaky with the mean slope, when not training."""
    lower, upper, training = (r for r in rest if isinstance(r, (bool, int, float)))
    if training:
        raise ctx.refuse("rrelu in training draws random slopes")
    return leaky_relu(ctx, x, (lower + upper) / 2)


@lowers("aten.rrelu_with_noise_functional.default")
def rrelu_with_noise(ctx: Context, x: Tensor, noise: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    """The same with the noise, which stays what it is."""
    return rrelu(ctx, x, *rest), noise


@lowers("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(ctx: Context, x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where positive, else ``slope * x``; one slope, one for each channel (axis 1), or broadcast."""
    channels = slope.rank == 1 and x.rank > 1 and ctx.target == "aten.prelu.default"

    def factor(*i: Iter) -> Scalar:
        if channels and slope.shape[0] != 1:
            return slope[i[1]]
        return slope.at([index(0)] * slope.rank) if channels or not i else broadcast(slope, i, ctx.dtype)

    def body(*i: Iter) -> Scalar:
        return where(apply("gt", x.at(i), 0), x.at(i), factor(*i) * x.at(i))

    return ctx.pointwise(body)


@lowers("aten.elu.default")
def elu(ctx: Context, x: Tensor, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> Tensor:
    """``scale*x`` where positive, else ``scale*alpha*(exp(input_scale*x) - 1)``."""

    def body(v: Scalar) -> Scalar:
        negative = _scaled(apply("expm1", _scaled(v, input_scale)), alpha * scale)
        return where(apply("gt", v, 0), _scaled(v, scale), negative)

    return pointwise(ctx, body, x)


@lowers("aten.gelu.default")
def gelu(ctx: Context, x: Tensor, approximate: str = "none") -> Tensor:
    """``x * Φ(x)``, with erf or with torch's tanh approximation."""

    def exact(v: Scalar) -> Scalar:
        return apply("mul", v, 0.5) * (apply("erf", apply("mul", v, math.sqrt(0.5))) + 1)

    def by_tanh(v: Scalar) -> Scalar:
        inner = apply("mul", v + apply("mul", v * v * v, 0.044715), math.sqrt(2 / math.pi))
        return apply("mul", v, 0.5) * (apply("tanh", inner) + 1)

    return pointwise(ctx, by_tanh if approximate == "tanh" else exact, x)


def _softplus(v: Scalar) -> Scalar:
    return apply("log1p", apply("exp", v))


@lowers("aten.softplus.default")
def softplus(ctx: Context, x: Tensor, beta: Number = 1, bound: Number = 20) -> Tensor:
    """``log(1 + exp(beta*x)) / beta``; ``x`` itself where ``beta*x`` is above the bound."""

    def body(v: Scalar) -> Scalar:
        scaled = _scaled(v, beta)
        smooth = _softplus(scaled)
        return where(apply("gt", scaled, bound), v, smooth if beta == 1 else apply("div", smooth, beta))

    return pointwise(ctx, body, x)


def _log_sigmoid(v: Scalar) -> Scalar:
    return apply("min", v, 0) - apply("log1p", apply("exp", -apply("abs", v)))


_FORMULAS: dict[str, Callable[[Scalar], Scalar]] = {
    "silu": lambda v: v * apply("sigmoid", v),
    "mish": lambda v: v * apply("tanh", where(apply("gt", v, 20), v, _softplus(v))),
    "log_sigmoid": _log_sigmoid,
}


@lowers("aten.silu.default", "aten.mish.default", "aten.log_sigmoid.default")
def formula(ctx: Context, x: Tensor) -> Tensor:
    """``x*sigmoid(x)``, ``x*tanh(softplus(x))``, ``log(sigmoid(x))``."""
    return pointwise(ctx, _FORMULAS[ctx.target.split(".")[1]], x)


@lowers("aten.log_sigmoid_forward.default")
def log_sigmoid_forward(ctx: Context, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """``log(sigmoid(x))`` and, for the backward pass, ``exp(-|x|)``."""
    out = pointwise(ctx, _log_sigmoid, x)
    buffer = ctx.compute(x.shape, lambda *i: apply("exp", -apply("abs", x.at(i)))) if ctx.used[1] else None
    return out, buffer


@lowers("aten.softshrink.default")
def softshrink(ctx: Context, x: Tensor, bound: Number = 0.5) -> Tensor:
    """``x`` moved towards zero by the bound, 0 within it."""

    def body(v: Scalar) -> Scalar:
        low = where(apply("lt", v, -bound), v + bound, apply("mul", v, 0))
        return where(apply("gt", v, bound), v - bound, low)

    return pointwise(ctx, body, x)


@lowers("aten.hardshrink.default")
def hardshrink(ctx: Context, x: Tensor, bound: Number = 0.5) -> Tensor:
    """``x`` outside ``[-bound, bound]``, 0 within."""

    def body(v: Scalar) -> Scalar:
        within = apply("and", apply("ge", v, -bound), apply("le", v, bound))
        return where(within, 0, v)

    return one_function(ctx, body, x)


@lowers("aten.glu.default")
def glu(ctx: Context, x: Tensor, dim: int = -1) -> Tensor:
    """The first half along an axis times the sigmoid of the second."""
    along, dtype = axis(dim, x.rank), wide(ctx.dtype)
    half = size(index(x.shape[along]) // 2)

    def body(*i: Iter) -> Scalar:
        second: list[Index] = [index(k) + half if a == along else index(k) for a, k in enumerate(i)]
        gate = apply("sigmoid", cast(x.at(second), dtype))
        return cast(cast(x.at(i), dtype) * gate, ctx.dtype)

    return ctx.pointwise(body)
