"""Copies, casts and operators that are the identity at inference. A copy that changes nothing is its source."""

from __future__ import annotations

from tpopt.frontend.context import Context, Operand, broadcast
from tpopt.frontend.promotion import identity_or_cast
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Tensor, const

lowers = Lowerings()


@lowers(
    "aten.alias.default",
    "aten.alias_copy.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.detach_copy.default",
    "aten.lift.default",
    "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default",
    "aten.positive.default",
    "aten.resolve_conj.default",
    "aten.resolve_neg.default",
)
def identity(_ctx: Context, x: Tensor, *_options: object) -> Tensor:
    """The same values."""
    return x


@lowers(
    "aten._to_copy.default",
    "aten.to.device",
    "aten.to.dtype",
    "aten.to.dtype_layout",
    "aten.to.other",
    "aten.to.prim_Device",
    "aten.to.prim_dtype",
    "aten.type_as.default",
)
def convert(ctx: Context, x: Tensor, *_options: object) -> Tensor:
    """The values in the result's element type."""
    return identity_or_cast(ctx, x)


@lowers("aten.copy.default")
def copy(ctx: Context, _target: Tensor, source: Tensor, _non_blocking: bool = False) -> Tensor:
    """``source`` broadcast to the target's shape and converted to its type."""
    return ctx.pointwise(lambda *i: broadcast(source, i, ctx.dtype))


@lowers("aten.fill.Scalar", "aten.fill.Tensor")
def fill(ctx: Context, _target: Tensor, value: Operand) -> Tensor:
    """``value`` everywhere."""
    return ctx.pointwise(lambda *i: broadcast(value, i, ctx.dtype))


@lowers(
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.feature_alpha_dropout.default",
)
def dropout(ctx: Context, x: Tensor, p: float, train: bool) -> Tensor:
    """The identity at inference."""
    if train and p != 0:
        raise ctx.refuse("dropout in training draws random numbers; call eval() on the model")
    return x


@lowers("aten.native_dropout.default")
def native_dropout(ctx: Context, x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor | None]:
    """The identity and a mask of ones at inference."""
    if train is not False and p != 0:
        raise ctx.refuse("dropout in training draws random numbers; call eval() on the model")
    mask = ctx.compute(x.shape, lambda *i: const(True, DType.BOOL), "mask") if ctx.used[1] else None
    return x, mask
