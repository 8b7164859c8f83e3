"""Attention written out as products and a softmax: one call of torch's scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.contraction import Contraction, Factor, match_contraction, plain_axes
from tpopt.backend.library.softmax import NO_SOFTMAX, Mask, Weights, match_weights
from tpopt.backend.library.strided import StridedView, affine
from tpopt.backend.library.views import iterators
from tpopt.backend.onednn_graph import GraphFunction
from tpopt.backend.operators import function
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Iter, Kernel, Program, index
from tpopt.ir.aten import torch_dtype
from tpopt.ir.digest import kernel_program
from tpopt.ir.index import evaluate
from tpopt.rewrite.numerics import Numerics

KIND = "attention"
SDPA, PRODUCTS, GRAPH = "attention.sdpa", "attention.products", "attention.onednn_graph"
ONE = Iter("one", 1)
"""Stands for an axis of extent 1 that is read at 0."""


def candidates(program: Program, found: Candidates) -> None:
    """Adds candidates for every product of a softmax of a product, with a scale and a constant mask between.

    Written out, it may become one call of torch's attention, or two batched products and a softmax; torch's attention
    itself is taken apart into the latter.
    """
    for stage in program.stages:
        if isinstance(stage, Kernel) and stage.implementation == "attention" and isinstance(stage.defines[-1], Compute):
            inner = kernel_program(stage)
            _match(inner, found, stage.defines[-1], program, (PRODUCTS, GRAPH))
        elif isinstance(stage, Compute):
            _match(program, found, stage, program, (SDPA, PRODUCTS, GRAPH))


def _match(
    inner: Program, found: Candidates, stage: Compute, program: Program, implementations: tuple[str, ...]
) -> None:
    match = match_contraction(stage)
    if isinstance(match, str) or match.bias is not None or not match.out.dtype.is_float:
        return
    for product in (match, match.swapped()):
        weights = match_weights(inner, product.left.tensor)
        if isinstance(weights, Weights):
            _add(program, found, product, weights, implementations)
            return
        if weights != NO_SOFTMAX:
            found.refuse(f"{match.out.name}:attention", KIND, (match.out.name,), weights)


def _add(
    program: Program, found: Candidates, product: Contraction, weights: Weights, implementations: tuple[str, ...]
) -> None:
    stages = (*weights.stages, product.stage)
    name, covers = f"{product.out.name}:attention", tuple(o.name for s in stages for o in s.outs)
    roles = _roles(product, weights)
    reason = roles if isinstance(roles, str) else _objection(program, weights.mask)
    if isinstance(roles, str) or reason:
        return found.refuse(name, KIND, covers, reason)
    mask = weights.mask
    masks = () if mask is None else (mask.read.tensor,)
    reads = (roles["query"].tensor, roles["key"].tensor, product.right.tensor, *masks)
    needs = tuple(Value(t.name) for t in dict.fromkeys(reads) if t not in set(program.weights))
    made = (Value(product.out.name),)
    for implementation in implementations:
        kernel = Kernel((product.out,), implementation, reads, stages, _parameters(product, weights, roles))
        label = name if implementation == SDPA else f"{name}:{implementation.removeprefix('attention.')}"
        price = kernel_key(kernel, "")
        found.add(Candidate(label, KIND, kernel, needs, made, price, Numerics.REASSOCIATING, covers))
    return None


def _parameters(product: Contraction, weights: Weights, roles: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    mask = weights.mask
    return (
        *((f"{role}_at", roles[role].indices) for role in ("query", "key")),
        ("value_at", product.right.indices),
        *((f"{role}_loops", tuple(index(i) for i in roles[f"{role}_loops"])) for role in ("query", "key", "value")),
        ("out_order", roles["out_order"]),
        ("scale", weights.scale),
        ("mask", "" if mask is None else mask.mode),
        ("mask_at", () if mask is None else mask.read.indices),
        ("mask_loops", () if mask is None else tuple(index(i) for i in mask.stage.loops)),
    )


def _roles(product: Contraction, weights: Weights) -> dict[str, Any] | str:
    """The factors, the iterators of each in the order batch, rows, columns, and how the result's axes are ordered."""
    axes, scores = plain_axes(product.left), weights.scores
    *batch, row, column = scores.loops
    if axes is None or len(product.reduced) != 1 or axes[-1] is not product.reduced[0] or len(scores.reduced) != 1:
        return "the softmax is not read whole, its last axis summed"
    if scores.stage.outs[0].shape != product.left.tensor.shape:
        return "the softmax has another shape than the scores"
    query, key = scores.left, scores.right
    if column in query.iterators():
        query, key = key, query
    if column in query.iterators() or row in key.iterators() or not _all_affine(query, key, product.right):
        return "queries, keys or values are not read at affine indices of their own"
    depth = scores.reduced[0]
    lead = [i or ONE for i in axes[:-1]]
    wide = [i for i in product.loops if i in product.right.iterators() and i not in lead]
    if len(wide) != 1 or lead[-1] in product.right.iterators():
        return "values have more than one axis of their own, or depend on the query"
    result = [*lead, wide[0]]
    placed = [result.index(i) for i in product.loops if i in result]
    return {
        "query": query, "key": key, "query_loops": (*batch, row, depth), "key_loops": (*batch, column, depth),
        "value_loops": (*lead[:-1], product.reduced[0], wide[0]),
        "out_order": (*placed, *(k for k in range(len(result)) if k not in placed)),
    }  # fmt: skip


def _all_affine(*factors: Factor) -> bool:
    return all(not f.bounds and all(affine(i) for i in f.indices) for f in factors)


def _objection(program: Program, mask: Mask | None) -> str:
    """Why a mask is not torch's: a query that sees no key makes NaN here and zeros there."""
    if mask is None:
        return ""
    values = program.constants[mask.read.tensor.name]
    if not all(affine(i) for i in mask.read.indices):
        return "the mask is not read at affine indices"
    if mask.mode == "added":
        return "" if np.isfinite(values).any(axis=-1).all() and not np.isnan(values).any() else "a query sees no key"
    if mask.fill > float(torch.finfo(torch.float32).min):
        return f"hidden scores are {mask.fill}, which is not minus infinity"
    visible = values if mask.mode == "visible" else np.logical_not(values)
    return "" if visible.any(axis=-1).all() else "a query sees no key"


def bind_attention(stage: Kernel, binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``attention.sdpa`` and ``attention.products``: strided views of query, key and value, then torch's kernels."""
    own: dict[str, Any] = dict(stage.parameters)
    views = [
        StridedView.of(own[f"{role}_at"], iterators(own[f"{role}_loops"]), sizes) for role in ("query", "key", "value")
    ]
    fused = stage.implementation == SDPA
    mask = None
    if own["mask"]:
        view = StridedView.of(own["mask_at"], iterators(own["mask_loops"]), sizes)
        weight = binder.weights[stage.reads[3].name]
        dtype = torch_dtype(stage.outs[0].dtype)
        build = (
            partial(_mask, weight, view, own["mask"]) if fused else partial(_added, weight, view, own["mask"], dtype)
        )
        mask = binder.packed((stage.implementation, stage.reads[3].name, view), build)
    shape = [evaluate(index(e), sizes) for e in stage.outs[0].shape]
    order, lead = own["out_order"], (*views[0].shape[:-1], views[2].shape[-1])
    if stage.implementation == GRAPH:
        key = (GRAPH, stage.reads[3].name if mask is not None else "", own["scale"])
        compute: Callable[..., torch.Tensor] = binder.packed(key, partial(_graph, mask, own["scale"]))
    else:
        compute = (_fused if fused else _products)(mask, own["scale"])

    def attend(*operands: torch.Tensor) -> torch.Tensor:
        result = compute(*(view(t) for view, t in zip(views, operands, strict=True)))
        return result.reshape(lead).permute(order).reshape(shape)

    refs = tuple(Ref(t.name) for t in stage.reads[:3])
    return Call(_LABELS[stage.implementation], attend, refs, (), (stage.outs[0].name,))


def _fused(mask: torch.Tensor | None, scale: float) -> Callable[..., torch.Tensor]:
    """One call of torch's attention on [batch, heads, length, width]."""
    call = function("aten.scaled_dot_product_attention.default")

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = call(_four(query), _four(key), _four(value), mask, 0.0, False, scale=scale)
        return result

    return attend


def _products(mask: torch.Tensor | None, scale: float) -> Callable[..., torch.Tensor]:
    """Two batched products around a softmax: for short sequences, whose scores fit into the cache."""
    multiply, softmax, scores = (function(f"aten.{n}.default") for n in ("bmm", "_softmax", "baddbmm"))

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.reshape(-1, *t.shape[-2:]) for t in (query, key, value))
        base = q.new_empty((1, 1, 1)) if mask is None else mask
        weights = softmax(scores(base, q, k.transpose(1, 2), beta=0 if mask is None else 1, alpha=scale), -1, False)
        result: torch.Tensor = multiply(weights, v)
        return result

    return attend


def _graph(mask: torch.Tensor | None, scale: float) -> Callable[..., torch.Tensor]:
    """The products and the softmax as one partition of oneDNN's graph compiler."""

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *added: torch.Tensor) -> torch.Tensor:
        scores = query.matmul(key.transpose(-2, -1)) * scale
        return torch.softmax(scores + added[0] if added else scores, -1).matmul(value)

    compiled = GraphFunction(attend)

    def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q = _four(query)
        if mask is None:
            return compiled(q, _four(key), _four(value))
        lead = q.shape[:2] if mask.shape[0] > 1 else (1, 1)
        return compiled(q, _four(key), _four(value), mask.view(*lead, *mask.shape[1:]))

    return run


def _four(tensor: torch.Tensor) -> torch.Tensor:
    """As [batch, heads, length, width]: further batch axes are one, missing ones are of extent 1."""
    shape: Sequence[int] = tensor.shape
    if len(shape) == 4:
        return tensor
    lead = shape[:-2]
    outer = (math.prod(lead[:-1]), lead[-1]) if lead else (1, 1)
    return tensor.reshape(*outer, *shape[-2:])


def _mask(weight: torch.Tensor, view: StridedView, mode: str) -> torch.Tensor:
    """The mask over [batch, heads, queries, keys]: added, or true where a key is visible."""
    seen = torch.logical_not(weight) if mode == "hidden" else weight
    return _four(view(seen.detach()))


def _added(weight: torch.Tensor, view: StridedView, mode: str, dtype: torch.dtype) -> torch.Tensor:
    """The mask as numbers over [batches, queries, keys]: minus infinity where a key is hidden."""
    seen = view(weight.detach())
    if mode != "added":
        hidden = seen if mode == "hidden" else torch.logical_not(seen)
        seen = hidden.new_zeros((), dtype=dtype).masked_fill(hidden, -math.inf)
    whole = all(stride == 0 or extent == 1 for stride, extent in zip(seen.stride()[:-2], seen.shape[:-2], strict=True))
    return seen[(0,) * (seen.dim() - 2)][None].contiguous() if whole else seen.reshape(-1, *seen.shape[-2:])


_LABELS = {SDPA: "attention", PRODUCTS: "attention as products", GRAPH: "attention by oneDNN's graph compiler"}
BINDERS = dict.fromkeys(_LABELS, bind_attention)
