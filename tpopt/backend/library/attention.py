"""Recognises attention, written out as products and a softmax or kept whole, and offers the ways to compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tpopt.backend.library.attention_kernels import BINDERS, GRAPH, PRODUCTS, SDPA
from tpopt.backend.library.contraction import Contraction, Factor, match_contraction, plain_axes
from tpopt.backend.library.softmax import NO_SOFTMAX, Mask, Weights, match_weights
from tpopt.backend.library.strided import affine
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Iter, Kernel, Program, index
from tpopt.ir.digest import kernel_program
from tpopt.rewrite.numerics import Numerics

__all__ = ["BINDERS", "candidates"]

KIND = "attention"
ONE = Iter("one", 1)
"""Stands for an axis of extent 1 that is read at 0."""
HIDES = float(torch.finfo(torch.float32).min)
"""A score of this or less is hidden: added to any other score it stays what it is."""


@dataclass(frozen=True)
class _Roles:
    """Queries, keys and values with the loops of each, in the order batch, rows, columns.

    ``out_order`` brings [batch, queries, width] into the order of the result's loops; axes that it has no loop for, all
    of extent 1, come last.
    """

    query: Factor
    key: Factor
    value: Factor
    query_loops: tuple[Iter, ...]
    key_loops: tuple[Iter, ...]
    value_loops: tuple[Iter, ...]
    out_order: tuple[int, ...]


def candidates(program: Program, found: Candidates) -> None:
    """Adds candidates for every product of a softmax of a product, with a scale and a constant mask between.

    Written out, it may become torch's attention, which the original operator already is where it was kept whole.
    """
    for stage in program.stages:
        if isinstance(stage, Kernel) and stage.implementation == "attention" and isinstance(stage.defines[-1], Compute):
            _match(kernel_program(stage), stage.defines[-1], program, found, (PRODUCTS, GRAPH))
        elif isinstance(stage, Compute):
            _match(program, stage, program, found, (SDPA, PRODUCTS, GRAPH))


def _match(inner: Program, stage: Compute, program: Program, found: Candidates, implementations: Sequence[str]) -> None:
    """Looks for an attention that ends with a stage of ``inner``, whose constants ``program`` holds."""
    match = match_contraction(stage)
    if isinstance(match, str) or match.bias is not None or not match.out.dtype.is_float:
        return
    name = f"{match.out.name}:attention"
    for product in (match, match.swapped()):
        weights = match_weights(inner, product.left.tensor)
        if isinstance(weights, Weights):
            roles = _roles(product, weights)
            if isinstance(roles, str):
                found.refuse(name, KIND, (match.out.name,), roles)
            else:
                _add(program, found, product, weights, roles, implementations)
            return
        if weights != NO_SOFTMAX:
            found.refuse(name, KIND, (match.out.name,), weights)


def _add(
    program: Program,
    found: Candidates,
    product: Contraction,
    weights: Weights,
    roles: _Roles,
    implementations: Sequence[str],
) -> None:
    stages = (*weights.stages, product.stage)
    covers = tuple(o.name for s in stages for o in s.outs)
    masks = () if weights.mask is None else (weights.mask.read.tensor,)
    reads = (roles.query.tensor, roles.key.tensor, roles.value.tensor, *masks)
    constants = set(program.weights)
    needs = tuple(Value(t.name) for t in dict.fromkeys(reads) if t not in constants)
    made = (Value(product.out.name),)
    for implementation in implementations:
        name = f"{product.out.name}:{implementation}"
        reason = _objection(program, weights.mask, implementation)
        if reason:
            found.refuse(name, KIND, covers, reason)
            continue
        kernel = Kernel((product.out,), implementation, reads, stages, _parameters(weights, roles))
        price = kernel_key(kernel, "")
        found.add(Candidate(name, KIND, kernel, needs, made, price, Numerics.REASSOCIATING, covers))


def _parameters(weights: Weights, roles: _Roles) -> tuple[tuple[str, Any], ...]:
    mask = weights.mask
    return (
        ("query_at", roles.query.indices),
        ("key_at", roles.key.indices),
        ("value_at", roles.value.indices),
        ("query_loops", _listed(roles.query_loops)),
        ("key_loops", _listed(roles.key_loops)),
        ("value_loops", _listed(roles.value_loops)),
        ("out_order", roles.out_order),
        ("scale", weights.scale),
        ("mask", "" if mask is None else mask.mode),
        ("fill", 0.0 if mask is None else mask.fill),
        ("mask_at", () if mask is None else mask.read.indices),
        ("mask_loops", () if mask is None else _listed(mask.stage.loops)),
    )


def _listed(loops: Sequence[Iter]) -> tuple[Any, ...]:
    return tuple(index(i) for i in loops)


def _roles(product: Contraction, weights: Weights) -> _Roles | str:
    axes, scores = plain_axes(product.left), weights.scores
    *batch, row, column = scores.loops
    if axes is None or len(product.reduced) != 1 or axes[-1] is not product.reduced[0] or len(scores.reduced) != 1:
        return "the softmax is not read whole, its last axis summed"
    if scores.stage.outs[0].shape != product.left.tensor.shape:
        return "the softmax has another shape than the scores"
    query, key, value = scores.left, scores.right, product.right
    if column in query.iterators():
        query, key = key, query
    if column in query.iterators() or row in key.iterators() or not all(map(_is_affine, (query, key, value))):
        return "queries, keys or values are not read at affine indices of their own"
    depth, summed = scores.reduced[0], product.reduced[0]
    lead = [i or ONE for i in axes[:-1]]
    wide = [i for i in product.loops if i in value.iterators() and i not in lead]
    if len(wide) != 1 or lead[-1] in value.iterators():
        return "values have more than one axis of their own, or depend on the query"
    result = [*lead, wide[0]]
    placed = [result.index(i) for i in product.loops if i in result]
    return _Roles(
        query, key, value, (*batch, row, depth), (*batch, column, depth), (*lead[:-1], summed, wide[0]),
        out_order=(*placed, *(k for k in range(len(result)) if k not in placed)),
    )  # fmt: skip


def _is_affine(factor: Factor) -> bool:
    return not factor.bounds and all(affine(i) for i in factor.indices)


def _objection(program: Program, mask: Mask | None, implementation: str) -> str:
    """Why a kernel that adds the mask to the scores would compute something else; empty where it would not."""
    if mask is None:
        return ""
    if not all(affine(i) for i in mask.read.indices):
        return "the mask is not read at affine indices"
    if mask.mode != "added" and mask.fill > HIDES:
        return f"hidden scores are {mask.fill}, which is not minus infinity"
    if implementation == SDPA and not _sees_something(program, mask):
        return "a query may see no key: torch's attention yields zeros where softmax yields NaN"
    return ""


def _sees_something(program: Program, mask: Mask) -> bool:
    """Whether every query is known to see a key: the mask holds whole rows of keys, none of them hidden altogether."""
    values, column = program.constants[mask.read.tensor.name], mask.stage.loops[-1]
    if mask.mode != "added" and mask.fill > -np.inf:
        return True
    if mask.read.indices[-1] is not index(column) or values.shape[-1] != column.extent:
        return False
    seen = np.isfinite(values) if mask.mode == "added" else values if mask.mode == "visible" else ~values
    return bool(seen.any(axis=-1).all())
