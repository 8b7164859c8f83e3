"""The type in which torch computes a pointwise operator, and the stage that does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND as TORCH_KIND
from torch._prims_common import elementwise_dtypes

from tpopt.frontend.context import Context, Operand, broadcast
from tpopt.ir import DType, Scalar, Tensor, cast
from tpopt.ir.aten import from_torch_dtype, torch_dtype
from tpopt.ir.index import Index
from tpopt.ir.terms import Number


class Kind(Enum):
    """How the computation type follows from the operands' types.

    ``WIDE`` promotes, and computes half types in f32, rounding once. ``EXACT`` promotes and computes in the promoted
    type: for one function whose result needs no wider type (a comparison, a maximum, one sum). ``FLOAT`` is ``WIDE``
    with integers turned to the default float type.
    """

    WIDE = TORCH_KIND.DEFAULT
    EXACT = TORCH_KIND.NO_OPMATH
    FLOAT = TORCH_KIND.INT_TO_FLOAT


def computation_dtype(kind: Kind, operands: Sequence[Operand]) -> DType:
    """The type to which torch converts the operands; numbers and 0-d tensors only raise the category of types."""
    proxies = [_proxy(o) for o in operands]
    computed, _ = elementwise_dtypes(*proxies, type_promotion_kind=kind.value)
    return from_torch_dtype(computed)


def _proxy(operand: Operand) -> torch.Tensor | Number:
    if isinstance(operand, Tensor):
        return torch.empty((1,) * min(operand.rank, 1), dtype=torch_dtype(operand.dtype), device="meta")
    return 0 if isinstance(operand, Index) else operand


def pointwise(ctx: Context, body: Callable[..., Scalar], *operands: Operand, kind: Kind = Kind.WIDE) -> Tensor:
    """``out[i…] = body(operands at i…)``: operands broadcast and converted to the computation type."""
    dtype = computation_dtype(kind, operands)
    return ctx.pointwise(lambda *i: cast(body(*(broadcast(o, i, dtype) for o in operands)), ctx.dtype))


def one_function(ctx: Context, body: Callable[..., Scalar], *operands: Operand) -> Tensor:
    """:func:`pointwise` for a function that needs no wider type than its result's.

    A number or a 0-d tensor beside half tensors is not rounded to half first, as in torch: the function runs in f32.
    """
    plain = all(isinstance(o, Tensor) and (o.rank or not ctx.out.rank) for o in operands)
    return pointwise(ctx, body, *operands, kind=Kind.EXACT if plain else Kind.WIDE)


def read_as(tensor: Tensor, dtype: DType) -> Callable[..., Scalar]:
    """``tensor`` at given iterators, converted."""
    return lambda *i: cast(tensor.at(i), dtype)


def identity_or_cast(ctx: Context, x: Tensor) -> Tensor:
    """``x`` itself where it has the result's type, else converted."""
    if x.dtype is ctx.dtype:
        return x
    return ctx.pointwise(read_as(x, ctx.dtype))
