"""Activation functions of one argument."""

from __future__ import annotations

from tpopt.frontend.context import Context, broadcast
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Tensor, apply

lowers = Lowerings()


@lowers("aten.relu.default")
def relu(ctx: Context, x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return ctx.pointwise(lambda *i: apply("max", broadcast(x, i, ctx.dtype), 0))


@lowers("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(ctx: Context, x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where positive, else ``slope * x``; one slope, or one for each channel (axis 1)."""

    def body(*i: Iter) -> object:
        value = x.at(i)
        channel = slope.rank == 1 and slope.shape[0] != 1
        factor = slope[i[1]] if channel else slope.at([*(0 * i[0] for _ in slope.shape)]) if slope.rank <= 1 else broadcast(slope, i, ctx.dtype)
        return apply("where", apply("gt", value, 0), value, factor * value)

    return ctx.pointwise(body)  # type: ignore[arg-type]
