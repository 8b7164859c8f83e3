"""Batched products: ``bmm`` on strided views of the operands, without the copies that views force; constants packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from math import prod
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.contraction import Contraction, Factor, match_contraction
from tpopt.backend.library.strided import StridedView, affine
from tpopt.backend.library.views import iterators
from tpopt.backend.operators import function
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, DType, Kernel, Program, index
from tpopt.rewrite.numerics import Numerics

KIND = "gemm"
_ROLES = ("batch", "rows", "reduced", "columns")
MAX_CALLS = 256
"""Products that one kernel makes where its batch is no single stride; a batch that needs more is copied first, unless
its view is larger than the tensor (windows that overlap), which no copy may be."""


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every contraction whose operands are read at affine indices.

    An operand may be read in windows, along a diagonal, or in part: that is a matter of strides. A plain product with
    one constant in f32 is left to the packed product of :mod:`tpopt.backend.library.linear`.
    """
    weights, constants = set(program.weights), set(program.constants)
    for stage in program.stages:
        match = match_contraction(stage) if isinstance(stage, Compute) else "it is no sum"
        if isinstance(match, str) or match.bias is not None:
            continue
        packed = tuple(f.tensor.name in constants for f in (match.left, match.right))
        form = _form(match)
        if isinstance(form, str):
            if not any(packed):
                found.refuse(f"{match.out.name}:bmm", KIND, (match.out.name,), form)
            continue
        if all(packed) or (any(packed) and match.out.dtype is DType.F32 and not dict(form)["batch"]):
            continue
        reads = (match.left.tensor, match.right.tensor)
        kernel = Kernel((match.out,), "gemm.batched", reads, (stage,), (*form, ("packed", packed)))
        needs = tuple(Value(t.name) for t in dict.fromkeys(reads) if t not in weights)
        name, covers, made = f"{match.out.name}:bmm", (match.out.name,), (Value(match.out.name),)
        key = kernel_key(kernel, "")
        found.add(Candidate(name, KIND, kernel, needs, made, key, Numerics.REASSOCIATING, covers))


def _form(match: Contraction) -> tuple[tuple[str, Any], ...] | str:
    """The roles of the iterators, as parameters of the kernel; or why it is no product of matrices."""
    if not (_is_affine(match.left) and _is_affine(match.right)):
        return "an operand is not read at affine indices without guards"
    left, right = match.left.iterators(), match.right.iterators()
    loops, reduced = match.loops, match.reduced
    if any(i not in left or i not in right for i in reduced):
        return "a summed iterator reads only one operand"
    batch = [i for i in loops if i in left and i in right]
    rows = [i for i in loops if i in left and i not in right]
    columns = [i for i in loops if i in right and i not in left]
    natural = [*batch, *rows, *columns]
    missing = tuple(k for k, i in enumerate(loops) if i not in natural)
    if any(loops[k].extent != 1 for k in missing):
        return "a loop reads neither operand"
    roles = zip(_ROLES, (batch, rows, reduced, columns), strict=True)
    return (
        ("left", match.left.indices),
        ("right", match.right.indices),
        *((role, tuple(index(i) for i in own)) for role, own in roles),
        ("out", tuple(natural.index(i) for i in loops if i in natural)),
        ("missing", missing),
    )


def _is_affine(factor: Factor) -> bool:
    return not factor.bounds and all(affine(i) for i in factor.indices)


def bind_gemm(stage: Kernel, binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``gemm.batched``: view both operands as batches of matrices, multiply, permute to the order of the loops.

    Batch axes that are one stride apart in both operands make one ``bmm``; the others are looped over.
    """
    own: dict[str, Any] = dict(stage.parameters)
    batch, rows, reduced, columns = (iterators(own[role]) for role in _ROLES)
    left = StridedView.of(own["left"], (*batch, *rows, *reduced), sizes)
    right = StridedView.of(own["right"], (*batch, *reduced, *columns), sizes)
    operands = [
        binder.packed(("gemm", tensor.name, view), partial(_pack, binder.weights[tensor.name], view)) if packed
        else Ref(tensor.name)
        for tensor, view, packed in zip(stage.reads, (left, right), own["packed"], strict=True)
    ]  # fmt: skip
    look_left, look_right = (_as_it_is if p else v for p, v in zip(own["packed"], (left, right), strict=True))
    lead, rest = left.shape[: len(batch)], left.shape[len(batch) :]
    m, n = rest[: len(rows)], right.shape[len(batch) + len(reduced) :]
    depth, matrix = prod(rest[len(rows) :]), (prod(m), prod(n))
    operator = "bmm" if batch else "mm"
    multiply, multiply_into = function(f"aten.{operator}.default"), function(f"aten.{operator}.out")
    out_order, missing = own["out"], own["missing"]

    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        p, q = look_left(x), look_right(y)
        looped = _looped(lead, p.stride(), q.stride())
        if prod(lead[:looped]) > MAX_CALLS and p.numel() <= x.numel() and q.numel() <= y.numel():
            looped = 0
        group = (prod(lead[looped:]),) if batch else ()
        first, second = (*group, matrix[0], depth), (*group, depth, matrix[1])
        result: torch.Tensor
        if not looped:
            result = multiply(_matrices(p, first), _matrices(q, second))
        else:
            result = x.new_empty((*lead[:looped], *group, *matrix))
            for at in product(*map(range, lead[:looped])):
                multiply_into(_matrices(p[at], first), _matrices(q[at], second), out=result[at])
        result = result.reshape((*lead, *m, *n)).permute(out_order)
        for position in missing:
            result = result.unsqueeze(position)
        return result

    return Call("batched GEMM" if batch else "GEMM", run, tuple(operands), (), (stage.outs[0].name,))


def _matrices(view: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A view in the shape of matrices, copied where neither rows nor columns lie together (no BLAS takes that)."""
    found = view.reshape(shape)
    return found if 1 in found.stride()[-2:] else found.contiguous()


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _pack(weight: torch.Tensor, view: StridedView) -> torch.Tensor:
    """A constant operand as its matrices lie one after the other."""
    return view(weight.detach()).contiguous()


def _looped(lead: Sequence[int], *strides: Sequence[int]) -> int:
    """How many of the outer batch axes are looped over, so that those left are one stride apart in every operand."""
    axes = [a for a, extent in enumerate(lead) if extent != 1]
    for outer, inner in reversed(list(pairwise(axes))):
        if any(s[outer] != lead[inner] * s[inner] for s in strides):
            return inner
    return 0


BINDERS = {"gemm.batched": bind_gemm}
