"""Attention written out as products and a softmax: one call of torch's scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from tpopt.backend.operators import function
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Iter, Kernel, Program, index
from tpopt.ir.index import evaluate
from tpopt.rewrite.numerics import Numerics

KIND = "attention"
ONE = Iter("one", 1)
"""Stands for an axis of extent 1 that is read at 0."""


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every product of a softmax of a product, with a scale and a constant mask between."""
    for stage in program.stages:
        match = match_contraction(stage) if isinstance(stage, Compute) else "it is no sum"
        if isinstance(match, str) or match.bias is not None or not match.out.dtype.is_float:
            continue
        for product in (match, match.swapped()):
            weights = match_weights(program, product.left.tensor)
            if isinstance(weights, Weights):
                _add(program, found, product, weights)
                break
            if weights != NO_SOFTMAX:
                found.refuse(f"{match.out.name}:attention", KIND, (match.out.name,), weights)


def _add(program: Program, found: Candidates, product: Contraction, weights: Weights) -> None:
    stages = (*weights.stages, product.stage)
    name, covers = f"{product.out.name}:attention", tuple(o.name for s in stages for o in s.outs)
    roles = _roles(product, weights)
    reason = roles if isinstance(roles, str) else _objection(program, weights.mask)
    if isinstance(roles, str) or reason:
        return found.refuse(name, KIND, covers, reason)
    query, key = roles["query"], roles["key"]
    mask = weights.mask
    reads = (query.tensor, key.tensor, product.right.tensor, *(() if mask is None else (mask.read.tensor,)))
    parameters: tuple[tuple[str, Any], ...] = (
        *((f"{role}_at", roles[role].indices) for role in ("query", "key")),
        ("value_at", product.right.indices),
        *((f"{role}_loops", tuple(index(i) for i in roles[f"{role}_loops"])) for role in ("query", "key", "value")),
        ("out_order", roles["out_order"]),
        ("scale", weights.scale),
        ("mask", "" if mask is None else mask.mode),
        ("mask_at", () if mask is None else mask.read.indices),
        ("mask_loops", () if mask is None else tuple(index(i) for i in mask.stage.loops)),
    )
    kernel = Kernel((product.out,), "attention.sdpa", reads, stages, parameters)
    needs = tuple(Value(t.name) for t in dict.fromkeys(reads) if t not in set(program.weights))
    made, price = (Value(product.out.name),), kernel_key(kernel, "")
    found.add(Candidate(name, KIND, kernel, needs, made, price, Numerics.REASSOCIATING, covers))
    return None


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
    """``attention.sdpa``: strided views of query, key and value as [batch, heads, length, width], one library call."""
    own: dict[str, Any] = dict(stage.parameters)
    views = [
        StridedView.of(own[f"{role}_at"], iterators(own[f"{role}_loops"]), sizes) for role in ("query", "key", "value")
    ]
    mask = None
    if own["mask"]:
        view = StridedView.of(own["mask_at"], iterators(own["mask_loops"]), sizes)
        weight = binder.weights[stage.reads[3].name]
        mask = binder.packed(("attention", stage.reads[3].name, view), partial(_mask, weight, view, own["mask"]))
    shape = [evaluate(index(e), sizes) for e in stage.outs[0].shape]
    order, scale = own["out_order"], own["scale"]
    call = function("aten.scaled_dot_product_attention.default")

    def attend(*operands: torch.Tensor) -> torch.Tensor:
        query, key, value = (_four(view(t)) for view, t in zip(views, operands, strict=True))
        result: torch.Tensor = call(query, key, value, mask, 0.0, False, scale=scale)
        lead = views[0].shape[:-1]
        return result.reshape(*lead, views[2].shape[-1]).permute(order).reshape(shape)

    refs = tuple(Ref(t.name) for t in stage.reads[:3])
    return Call("attention", attend, refs, (), (stage.outs[0].name,))


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


BINDERS = {"attention.sdpa": bind_attention}
