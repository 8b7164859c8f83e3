"""The ways to compute attention: torch's own, two products around a softmax, and a partition of oneDNN's compiler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.strided import StridedView
from tpopt.backend.library.views import iterators
from tpopt.backend.onednn_graph import GraphFunction
from tpopt.backend.operators import function
from tpopt.ir import Kernel, index
from tpopt.ir.aten import torch_dtype
from tpopt.ir.index import evaluate

SDPA: Final = "attention.sdpa"
PRODUCTS: Final = "attention.products"
GRAPH: Final = "attention.onednn_graph"

Attend: TypeAlias = Callable[..., torch.Tensor]
"""From query, key and value as [batch, heads, length, width], and a mask to add where there is one, to the result."""


def bind_attention(stage: Kernel, binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``attention.*``: strided views of query, key and value, the kernel, and the result in the order of its loops."""
    own: dict[str, Any] = dict(stage.parameters)
    views = [
        StridedView.of(own[f"{role}_at"], iterators(own[f"{role}_loops"]), sizes) for role in ("query", "key", "value")
    ]
    added = _added(stage, binder, sizes) if own["mask"] else ()
    kernel: Attend = binder.packed(
        (stage.implementation, own["scale"]), partial(_KERNELS[stage.implementation], own["scale"])
    )
    shape = [evaluate(index(e), sizes) for e in stage.outs[0].shape]
    order, lead = own["out_order"], (*views[0].shape[:-1], views[2].shape[-1])

    def attend(*operands: torch.Tensor) -> torch.Tensor:
        result = kernel(*(_four(view(t)) for view, t in zip(views, operands, strict=True)), *added)
        return result.reshape(lead).permute(order).reshape(shape)

    refs = tuple(Ref(t.name) for t in stage.reads[:3])
    return Call(f"attention ({stage.implementation.partition('.')[2]})", attend, refs, (), (stage.outs[0].name,))


def _sdpa(scale: float) -> Attend:
    """One call of torch's attention."""
    call = function("aten.scaled_dot_product_attention.default")

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *added: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = call(query, key, value, *(added or (None,)), 0.0, False, scale=scale)
        return result

    return attend


def _products(scale: float) -> Attend:
    """Two batched products around a softmax: for short sequences, whose scores fit into the cache."""
    multiply, softmax, scores = (function(f"aten.{n}.default") for n in ("bmm", "_softmax", "baddbmm"))

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *added: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.reshape(-1, *t.shape[-2:]) for t in (query, key, value))
        mask = added[0].reshape(-1, *added[0].shape[-2:]) if added else q.new_empty((1, 1, 1))
        weights = softmax(scores(mask, q, k.transpose(1, 2), beta=1 if added else 0, alpha=scale), -1, False)
        result: torch.Tensor = multiply(weights, v)
        return result

    return attend


def _graph(scale: float) -> Attend:
    """The products and the softmax as one partition of oneDNN's graph compiler."""

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *added: torch.Tensor) -> torch.Tensor:
        scores = query.matmul(key.transpose(-2, -1)) * scale
        return torch.softmax(scores + added[0] if added else scores, -1).matmul(value)

    return GraphFunction(attend)


def _four(tensor: torch.Tensor) -> torch.Tensor:
    """As [batch, heads, length, width]: further batch axes are one, missing ones are of extent 1."""
    shape: Sequence[int] = tensor.shape
    if len(shape) == 4:
        return tensor
    lead = shape[:-2]
    outer = (math.prod(lead[:-1]), lead[-1]) if lead else (1, 1)
    return tensor.reshape(*outer, *shape[-2:])


def _added(stage: Kernel, binder: Binder, sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    """The mask as numbers over [batch, heads, queries, keys], built once for each view of it."""
    own: dict[str, Any] = dict(stage.parameters)
    view = StridedView.of(own["mask_at"], iterators(own["mask_loops"]), sizes)
    name, dtype = stage.reads[3].name, torch_dtype(stage.outs[0].dtype)

    def build() -> torch.Tensor:
        mask = view(binder.weights[name].detach())
        if all(s == 0 or e == 1 for s, e in zip(mask.stride()[:-2], mask.shape[:-2], strict=True)):
            mask = mask[(0,) * (mask.dim() - 2)]  # the same for every batch
        if own["mask"] != "added":
            hidden = mask if own["mask"] == "hidden" else torch.logical_not(mask)
            mask = hidden.new_zeros((), dtype=dtype).masked_fill(hidden, own["fill"])
        return _four(mask).contiguous()

    return (binder.packed(("mask", name, own["mask"], own["fill"], dtype, view), build),)


_KERNELS: Mapping[str, Callable[[float], Attend]] = MappingProxyType({SDPA: _sdpa, PRODUCTS: _products, GRAPH: _graph})
BINDERS = dict.fromkeys(_KERNELS, bind_attention)
