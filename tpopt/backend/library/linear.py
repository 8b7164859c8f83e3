"""Matrix products with constant weights: oneDNN's inner product on packed weights with fused epilogues, and MKL's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.contraction import Contraction, match_contraction, plain_axes
from tpopt.backend.library.epilogue import ACTIVATIONS, Epilogue, epilogues
from tpopt.backend.operators import function
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, DType, Iter, Kernel, Program, Tensor, index
from tpopt.rewrite.numerics import Numerics

Transform: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

KIND = "onednn"
MKL = "mkl"
_UNSUPPORTED = ("hardsigmoid",)
"""Epilogues that oneDNN has for convolutions but not for inner products."""


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every matrix product of a tensor with a constant weight, with each epilogue."""
    weights = {w for w in program.weights if w.name in program.constants}
    for stage in program.stages:
        if not isinstance(stage, Compute):
            continue
        match = match_contraction(stage)
        if isinstance(match, str):
            continue
        oriented = _oriented(match, weights)
        if oriented is None:
            continue
        name = f"{match.out.name}:linear"
        shape = _matrix_form(oriented, weights)
        if isinstance(shape, str):
            if oriented.right.tensor.rank > 2:
                continue  # a convolution: its own file says what stands against it
            found.refuse(name, KIND, (match.out.name,), shape)
            continue
        for epilogue in epilogues(program, match.out):
            _add(program, found, oriented, shape, epilogue)


def _oriented(match: Contraction, weights: set[Tensor]) -> Contraction | None:
    """With the weight on the right; ``None`` unless exactly one operand is a weight."""
    left, right = match.left.tensor in weights, match.right.tensor in weights
    if left == right:
        return None
    return match if right else match.swapped()


@dataclass(frozen=True)
class _Form:
    """Axis orders that make it ``[rows, depth] x [depth, columns]``.

    ``ones`` axes of extent 1 come first in ``x``; ``missing`` are the positions of loops of extent 1 that read nothing.
    """

    rows: list[Iter]
    columns: list[Iter]
    ones: int
    x: tuple[int, ...]
    w: tuple[int, ...]
    out: tuple[int, ...]
    depth: int
    missing: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether rows, depth and columns lie as oneDNN takes and yields them."""
        return (
            not self.ones
            and not self.missing
            and len(self.rows) >= 1
            and len(self.columns) == 1
            and len(self.x) == len(self.rows) + 1
            and self.x == tuple(range(len(self.x)))
            and self.out == tuple(range(len(self.out)))
        )


def _matrix_form(match: Contraction, weights: set[Tensor]) -> _Form | str:
    if match.out.dtype is not DType.F32 or match.left.tensor.dtype is not DType.F32:
        return f"oneDNN's packed product is wired for f32, this is {match.out.dtype}"
    x, w = plain_axes(match.left), plain_axes(match.right)
    if x is None or w is None:
        return "an operand is not read whole, axis by axis"
    reduced, loops = set(match.reduced), list(match.loops)
    if any(i not in x or i not in w for i in match.reduced) or not reduced:
        return "a summed iterator reads only one operand"
    rows = [i for i in loops if i in x]
    columns = [i for i in loops if i in w]
    if set(rows) & set(columns):
        return "a loop reads both operands: a batched product"
    missing = tuple(k for k, i in enumerate(loops) if i not in rows and i not in columns)
    if any(loops[k].extent != 1 for k in missing):
        return "a loop reads neither operand"
    if any(not isinstance(i.extent, int) for i in (*columns, *match.reduced)):
        return "the weight's extents are not static"
    if match.bias is not None and _bias_axes(match, columns, weights) is None:
        return "the added term is no weight over the product's columns"
    order = [*rows, *match.reduced]
    x_order = tuple(k for k, i in enumerate(x) if i is None) + tuple(x.index(i) for i in order)
    w_order = tuple(k for k, i in enumerate(w) if i is None) + tuple(w.index(i) for i in (*columns, *match.reduced))
    natural = [*rows, *columns]
    out = tuple(natural.index(i) for i in loops if i in natural)
    depth = 1
    for i in match.reduced:
        depth *= int(str(i.extent))
    return _Form(rows, columns, x.count(None), x_order, w_order, out, depth, missing)


def _bias_axes(match: Contraction, columns: list[Iter], weights: set[Tensor]) -> tuple[int, ...] | None:
    """The column that each axis of the bias runs over, in order; ``None`` for a bias that is something else."""
    bias = match.bias
    if bias is None or bias.tensor not in weights or not bias.tensor.rank:
        return None
    own = [next((k for k, c in enumerate(columns) if i is index(c)), -1) for i in bias.indices]
    whole = all(k >= 0 and columns[k].extent == e for k, e in zip(own, bias.tensor.shape, strict=True))
    return tuple(own) if whole and own == sorted(set(own)) else None


def _add(program: Program, found: Candidates, match: Contraction, form: _Form, epilogue: Epilogue) -> None:
    name = f"{epilogue.out.name}:linear({match.out.name})"
    covers = (match.out.name, *(s.outs[0].name for s in epilogue.stages))
    if epilogue.other is not None and (epilogue.activation or not form.plain):
        return found.refuse(
            name, KIND, covers, "oneDNN's product adds a tensor only in its own layout and without an activation"
        )
    if epilogue.activation in _UNSUPPORTED:
        return found.refuse(name, KIND, covers, f"oneDNN's product has no {epilogue.activation} epilogue")
    reads = [match.left.tensor, match.right.tensor]
    if match.bias is not None:
        reads.append(match.bias.tensor)
    if epilogue.other is not None:
        reads.append(epilogue.other)
    parameters = (
        ("x_order", form.x),
        ("w_order", form.w),
        ("out_order", form.out),
        ("rows", len(form.rows)),
        ("columns", tuple(int(str(i.extent)) for i in form.columns)),
        ("depth", form.depth),
        ("ones", form.ones),
        ("missing", form.missing),
        ("bias", _bias_axes(match, form.columns, set(reads[2:3]))),
        ("binary", epilogue.other is not None),
        ("activation", epilogue.activation),
    )
    stage = Kernel((epilogue.out,), "onednn.linear", tuple(reads), (match.stage, *epilogue.stages), parameters)
    needs = tuple(Value(t.name) for t in dict.fromkeys(reads) if t not in program.weights)
    produces = (Value(epilogue.out.name),)
    found.add(Candidate(name, KIND, stage, needs, produces, kernel_key(stage, ""), Numerics.REASSOCIATING, covers))
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    if not epilogue.stages and has_mkl and row_count(match.left.tensor, form.depth):
        other = replace(stage, implementation="mkl.linear")
        key = kernel_key(other, "")
        found.add(Candidate(f"{name}:mkl", MKL, other, needs, produces, key, Numerics.REASSOCIATING, covers))
    return None


def bind_linear(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``onednn.linear``: permute and flatten where needed, multiply by the packed matrix, permute back."""
    own: dict[str, Any] = dict(stage.parameters)
    x, w = stage.reads[:2]
    rows = row_count(x, own["depth"])

    def pack() -> torch.Tensor:
        dense = matrix(binder.weights[w.name], own)
        packed: torch.Tensor = function("mkldnn._reorder_linear_weight.default")(dense, rows)
        return packed

    packed = binder.packed(("linear", w.name, own["w_order"]), pack)
    bias = None if own["bias"] is None else row(binder.weights[stage.reads[2].name], own)
    first, last = before(own, x.rank), after(own)
    out = (stage.outs[0].name,)
    if own["binary"]:
        call = function("mkldnn._linear_pointwise.binary")
        other = stage.reads[-1].name
        return Call(
            "oneDNN linear + add",
            wrap(call, first, last),
            (Ref(x.name), Ref(other), packed, bias, "add"),
            (),
            out,
        )
    call = function("mkldnn._linear_pointwise.default")
    activation = ACTIVATIONS[own["activation"]]
    post = (activation.attribute, list(activation.scalars), activation.algorithm)
    args: tuple[Any, ...] = (Ref(x.name), packed, bias, *post)
    label = "oneDNN linear" + (f" + {own['activation']}" if own["activation"] else "")
    return Call(label, wrap(call, first, last), args, (), out)


def bind_mkl(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``mkl.linear``: the same product by MKL, on a matrix packed for the number of rows."""
    own: dict[str, Any] = dict(stage.parameters)
    x, w = stage.reads[:2]
    rows = row_count(x, own["depth"])

    def pack() -> tuple[torch.Tensor, torch.Tensor]:
        dense = matrix(binder.weights[w.name], own)
        return function("mkl._mkl_reorder_linear_weight.default")(dense, rows), dense

    packed, dense = binder.packed(("mkl", w.name, own["w_order"]), pack)
    bias = None if own["bias"] is None else row(binder.weights[stage.reads[2].name], own)
    call = wrap(function("mkl._mkl_linear.default"), before(own, x.rank), after(own))
    return Call("MKL linear", call, (Ref(x.name), packed, dense, bias, rows), (), (stage.outs[0].name,))


def matrix(weight: torch.Tensor, own: Mapping[str, Any]) -> torch.Tensor:
    """The weight as [columns, depth], row-major."""
    return weight.detach().permute(own["w_order"]).reshape(-1, own["depth"]).contiguous()


def row(bias: torch.Tensor, own: Mapping[str, Any]) -> torch.Tensor:
    """The bias of every column, flat."""
    columns, axes = own["columns"], own["bias"]
    shape = [extent if k in axes else 1 for k, extent in enumerate(columns)]
    return bias.detach().reshape(shape).expand(*columns).reshape(-1).contiguous()


def row_count(x: Tensor, depth: int) -> int | None:
    """Rows of the product, for which the weight is packed; ``None`` where they are dynamic: one packing serves all."""
    if any(not isinstance(e, int) for e in x.shape):
        return None
    return max(1, prod(e for e in x.shape if isinstance(e, int)) // depth)


def before(own: Mapping[str, Any], rank: int) -> Transform | None:
    """Brings ``x`` into ``[rows..., depth]``; ``None`` where it lies so already."""
    order, rows, depth = own["x_order"], own["rows"], own["depth"]
    if order == tuple(range(rank)) and rank == rows + 1 and rows:
        return None
    ones = own["ones"]
    return lambda t: (moved := t.permute(order)).reshape(*(moved.shape[ones : ones + rows] or (1,)), depth)


def after(own: Mapping[str, Any]) -> Transform | None:
    """Brings ``[rows..., columns]`` into the order of the loops."""
    order, rows, columns, missing = own["out_order"], own["rows"], own["columns"], own["missing"]
    if order == tuple(range(len(order))) and len(columns) == 1 and rows and not missing:
        return None

    def restore(t: torch.Tensor) -> torch.Tensor:
        result = t.reshape((*(t.shape[:-1] if rows else ()), *columns)).permute(order)
        for position in missing:
            result = result.unsqueeze(position)
        return result

    return restore


def wrap(call: Callable[..., Any], first: Transform | None, last: Transform | None) -> Callable[..., Any]:
    """The call on what ``first`` makes of its first argument, and ``last`` of its result."""
    if first is None and last is None:
        return call
    ahead = first or (lambda t: t)
    behind = last or (lambda t: t)
    return lambda x, *rest: behind(call(ahead(x), *rest))


BINDERS = {"onednn.linear": bind_linear, "mkl.linear": bind_mkl}
