"""Softmax and its logarithm, over one online (max, sum) reduction; and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context, axis
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Index, Iter, Scalar, Tensor, apply, cast, index, reduce, total, where
from tpopt.ir.terms import const

lowers = Lowerings()


def _without(i: Sequence[Iter], at: int) -> list[Index]:
    return [index(k) for a, k in enumerate(i) if a != at]


def _with(i: Sequence[Iter], at: int, k: Iter) -> list[Index]:
    listed = [index(j) for j in i]
    return [*listed[:at], index(k), *listed[at:]]


def peaks(ctx: Context, source: Tensor, at: int, kind: DType) -> tuple[Tensor, Tensor]:
    """Along axis ``at``: the maximum, and the sum of ``exp(x - maximum)``."""
    k = Iter("k", source.shape[at])

    def body(*i: Iter) -> tuple[Scalar, ...]:
        value = cast(source.at(_with(i, at, k)), kind)
        carried = (value, const(1, kind))
        return reduce("logsumexp", (k,), *carried, pick=0), reduce("logsumexp", (k,), *carried, pick=1)

    top, mass = ctx.many([e for a, e in enumerate(source.shape) if a != at], body)
    return top, mass


Form = Callable[[Scalar, Scalar, Scalar], Scalar]


def _softmax(ctx: Context, x: Tensor, dim: int, form: Form) -> Tensor:
    """``form(x, maximum, sum)`` at every point; a number is a vector of one."""
    kind = wide(ctx.dtype)
    if not x.rank:
        value = cast(cast(x.at([]), ctx.dtype), kind)
        return ctx.pointwise(lambda: cast(form(value, value, const(1, kind)), ctx.dtype))
    at = axis(dim, x.rank)
    source = (
        x if wide(x.dtype) in (kind, ctx.dtype) else ctx.compute(x.shape, lambda *i: cast(x.at(i), ctx.dtype), "cast")
    )
    top, mass = peaks(ctx, source, at, kind)

    def body(*i: Iter) -> Scalar:
        outer = _without(i, at)
        return cast(form(cast(source.at(i), kind), top.at(outer), mass.at(outer)), ctx.dtype)

    return ctx.compute(ctx.out.shape, body)


def share(value: Scalar, top: Scalar, mass: Scalar) -> Scalar:
    """``exp(value - maximum) / sum``."""
    return apply("div", apply("exp", apply("sub", value, top)), mass)


def share_or_zero(value: Scalar, top: Scalar, mass: Scalar) -> Scalar:
    """The same, zero where every value is minus infinity."""
    return where(apply("eq", top, -math.inf), 0.0, share(value, top, mass))


def _log_share(value: Scalar, top: Scalar, mass: Scalar) -> Scalar:
    return apply("sub", apply("sub", value, top), apply("log", mass))


@lowers("aten.softmax.int", "aten._softmax.default", "aten.special_softmax.default")
def softmax(ctx: Context, x: Tensor, dim: int, _type: object) -> Tensor:
    """``exp(x - max) / sum(exp(x - max))``, in f32 for half types; a wanted type is the result's."""
    return _softmax(ctx, x, dim, share)


@lowers("aten._safe_softmax.default")
def safe_softmax(ctx: Context, x: Tensor, dim: int, _type: object) -> Tensor:
    """The same, zero where a whole row is minus infinity."""
    return _softmax(ctx, x, dim, share_or_zero)


@lowers("aten.log_softmax.int", "aten._log_softmax.default", "aten.special_log_softmax.default")
def log_softmax(ctx: Context, x: Tensor, dim: int, _type: object) -> Tensor:
    """``x - max - log(sum(exp(x - max)))``."""
    return _softmax(ctx, x, dim, _log_share)


def _backward(
    ctx: Context, grad: Tensor, out: Tensor, dim: int, summand: Callable[[Scalar, Scalar], Scalar], form: Form
) -> Tensor:
    kind = wide(grad.dtype)
    if not grad.rank:
        raise ctx.refuse("the gradient of a softmax over a number")
    at = axis(dim, grad.rank)
    k = Iter("k", grad.shape[at])

    def read(source: Tensor, where_: Sequence[Index]) -> Scalar:
        return cast(source.at(list(where_)), kind)

    def inner(*i: Iter) -> Scalar:
        return total((k,), summand(read(grad, _with(i, at, k)), read(out, _with(i, at, k))))

    summed = ctx.compute([e for a, e in enumerate(grad.shape) if a != at], inner, "sum")

    def body(*i: Iter) -> Scalar:
        here = [index(j) for j in i]
        return cast(form(read(grad, here), read(out, here), summed.at(_without(i, at))), ctx.dtype)

    return ctx.compute(ctx.out.shape, body)


@lowers("aten._softmax_backward_data.default")
def softmax_backward(ctx: Context, grad: Tensor, out: Tensor, dim: int, _type: object) -> Tensor:
    """``(grad - sum(grad * out)) * out``."""

    def form(g: Scalar, y: Scalar, s: Scalar) -> Scalar:
        return apply("mul", apply("sub", g, s), y)

    return _backward(ctx, grad, out, dim, lambda g, y: apply("mul", g, y), form)


@lowers("aten._log_softmax_backward_data.default")
def log_softmax_backward(ctx: Context, grad: Tensor, out: Tensor, dim: int, _type: object) -> Tensor:
    """``grad - exp(out) * sum(grad)``."""

    def form(g: Scalar, y: Scalar, s: Scalar) -> Scalar:
        return apply("sub", g, apply("mul", apply("exp", y), s))

    return _backward(ctx, grad, out, dim, lambda g, _: g, form)
