"""Copies into another physical layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.operators import function
from tpopt.ir import Kernel


def bind_layout(stage: Kernel, _binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``layout``: a copy in ``channels_last``, or in row-major order (no copy where it lies so already)."""
    wanted = dict(stage.parameters)["layout"]
    memory: Any = torch.channels_last if wanted == "channels_last" else torch.contiguous_format
    call = function("aten.contiguous.default")
    return Call(
        f"to {wanted or 'row-major'}",
        call,
        (Ref(stage.reads[0].name),),
        (("memory_format", memory),),
        (stage.outs[0].name,),
    )


BINDERS = {"layout": bind_layout}
