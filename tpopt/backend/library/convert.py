"""Conversions of a tensor to another element type, and to another layout on the way."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.operators import function
from tpopt.ir import Kernel
from tpopt.ir.aten import torch_dtype


def bind_conversion(stage: Kernel, _binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``convert``: one copy, rounded to the nearest."""
    dtype = torch_dtype(stage.outs[0].dtype)
    call = function("aten._to_copy.default")
    last = dict(stage.parameters)["layout"] == "channels_last"
    options = (("dtype", dtype), ("memory_format", torch.channels_last if last else torch.contiguous_format))
    return Call(f"to {stage.outs[0].dtype}", call, (Ref(stage.reads[0].name),), options, (stage.outs[0].name,))


BINDERS = {"convert": bind_conversion}
