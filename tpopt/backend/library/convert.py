"""Conversions of a tensor to another element type, and to another layout on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.operators import function
from tpopt.ir import DType, Kernel
from tpopt.ir.aten import torch_dtype
from tpopt.passes.precision.quantized import CODES


def bind_conversion(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``convert``: one copy, rounded to the nearest; codes of eight bits by the three numbers beside them."""
    source, target = stage.reads[0], stage.outs[0]
    last = dict(stage.parameters)["layout"] == "channels_last"
    layout = torch.channels_last if last else torch.contiguous_format
    if len(stage.reads) > 1:
        scale, inverse, zero = binder.weights[stage.reads[1].name].tolist()
        if target.dtype is DType.U8:
            call = _encoder(inverse, zero, layout)
        else:
            call = _decoder(scale, zero, torch_dtype(target.dtype), layout)
        return Call(f"to {target.dtype}", call, (Ref(source.name),), (), (target.name,))
    options = (("dtype", torch_dtype(target.dtype)), ("memory_format", layout))
    copy = function("aten._to_copy.default")
    return Call(f"to {target.dtype}", copy, (Ref(source.name),), options, (target.name,))


def _encoder(inverse: float, zero: float, layout: torch.memory_format) -> Callable[[torch.Tensor], torch.Tensor]:
    def encode(value: torch.Tensor) -> torch.Tensor:
        codes = value.to(torch.float32).mul(inverse).round_().add_(zero).clamp_(0.0, CODES)
        return codes.to(torch.uint8, memory_format=layout)

    return encode


def _decoder(
    scale: float, zero: float, dtype: torch.dtype, layout: torch.memory_format
) -> Callable[[torch.Tensor], torch.Tensor]:
    def decode(codes: torch.Tensor) -> torch.Tensor:
        return codes.to(torch.float32, memory_format=layout).sub_(zero).mul_(scale).to(dtype)

    return decode


BINDERS = {"convert": bind_conversion}
