"""Batched products of two computed tensors: one ``bmm`` on strided operands, without the copies that views force."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.contraction import Contraction, match_contraction, plain_axes
from tpopt.backend.operators import function
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Iter, Kernel, Program
from tpopt.rewrite.numerics import Numerics

KIND = "gemm"


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every contraction whose operands are read whole, axis by axis, and are no constants."""
    for stage in program.stages:
        match = match_contraction(stage) if isinstance(stage, Compute) else "it is no sum"
        if isinstance(match, str) or match.bias is not None:
            continue
        names = {match.left.tensor.name, match.right.tensor.name}
        if names & set(program.constants):
            continue
        form = _form(match)
        if isinstance(form, str):
            found.refuse(f"{match.out.name}:bmm", KIND, (match.out.name,), form)
            continue
        reads = (match.left.tensor, match.right.tensor)
        kernel = Kernel((match.out,), "gemm.batched", reads, (stage,), form)
        weights = set(program.weights)
        needs = tuple(Value(t.name) for t in dict.fromkeys(reads) if t not in weights)
        name, covers = f"{match.out.name}:bmm", (match.out.name,)
        found.add(
            Candidate(
                name,
                KIND,
                kernel,
                needs,
                (Value(match.out.name),),
                kernel_key(kernel, ""),
                Numerics.REASSOCIATING,
                covers,
            )
        )


def _form(match: Contraction) -> tuple[tuple[str, Any], ...] | str:
    left, right = plain_axes(match.left), plain_axes(match.right)
    if left is None or right is None:
        return "an operand is not read whole, axis by axis"
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
    return (
        ("left", _order(left, [*batch, *rows, *reduced])),
        ("right", _order(right, [*batch, *reduced, *columns])),
        ("groups", (len(batch), len(rows), len(reduced), len(columns))),
        ("out", tuple(natural.index(i) for i in loops if i in natural)),
        ("missing", missing),
    )


def _order(axes: tuple[Iter | None, ...], wanted: list[Iter]) -> tuple[int, ...]:
    """Axes of extent 1 first, then those of ``wanted`` in that order."""
    return tuple(k for k, i in enumerate(axes) if i is None) + tuple(axes.index(i) for i in wanted)


def bind_gemm(stage: Kernel, _binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``gemm.batched``: permute, ``bmm`` (or ``mm``), permute back."""
    own: dict[str, Any] = dict(stage.parameters)
    b, m, k, n = own["groups"]
    left_order, right_order, out_order = own["left"], own["right"], own["out"]
    left_ones, right_ones = len(left_order) - b - m - k, len(right_order) - b - k - n
    multiply = function("aten.bmm.default" if b else "aten.mm.default")

    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        p, q = x.permute(left_order), y.permute(right_order)
        first, second = p.shape[left_ones:], q.shape[right_ones:]
        lead, rows, depth = first[:b], first[b : b + m], prod(first[b + m :])
        columns = second[b + k :]
        groups = (prod(lead),) if b else ()
        result: torch.Tensor = multiply(p.reshape(*groups, prod(rows), depth), q.reshape(*groups, depth, prod(columns)))
        result = result.reshape((*lead, *rows, *columns)).permute(out_order)
        for position in own["missing"]:
            result = result.unsqueeze(position)
        return result

    names = (Ref(stage.reads[0].name), Ref(stage.reads[1].name))
    return Call("batched GEMM" if b else "GEMM", run, names, (), (stage.outs[0].name,))


BINDERS = {"gemm.batched": bind_gemm}
