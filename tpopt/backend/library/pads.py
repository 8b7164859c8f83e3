"""Padding: a box of a tensor read at affine indices, and a constant around it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.strided import StridedView, affine
from tpopt.backend.library.views import iterators
from tpopt.backend.operators import function
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Bound, Compute, Const, Index, Iter, Kernel, Program, Read, Select
from tpopt.ir.index import evaluate, index

KIND = "pad"


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every stage that reads a tensor inside a box of its loops and is constant outside."""
    weights = set(program.weights)
    for stage in program.stages:
        body = stage.bodies[0] if isinstance(stage, Compute) and len(stage.bodies) == 1 else None
        if not (isinstance(body, Select) and isinstance(body.inside, Read) and isinstance(body.outside, Const)):
            continue
        assert isinstance(stage, Compute)
        read, out = body.inside, stage.outs[0]
        if not all(affine(i) for i in read.indices) or not all(_is_box(b, stage) for b in body.guard.bounds):
            continue
        kernel = Kernel(
            (out,), "pad.strided", (read.tensor,), (stage,),
            (
                ("indices", read.indices),
                ("loops", tuple(index(i) for i in stage.loops)),
                ("box", tuple((b.value, b.low, b.high) for b in body.guard.bounds)),
                ("value", body.outside.value),
            ),
        )  # fmt: skip
        needs = () if read.tensor in weights else (Value(read.tensor.name),)
        made = (Value(out.name),)
        found.add(Candidate(f"{out.name}:pad", KIND, kernel, needs, made, kernel_key(kernel, ""), covers=(out.name,)))


def _is_box(bound: Bound, stage: Compute) -> bool:
    """Whether a bound limits one loop of the stage."""
    return any(bound.value is index(loop) for loop in stage.loops)


def bind_pad(stage: Kernel, _binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``pad.strided``: a strided view of the box, then one ``constant_pad_nd``."""
    own = dict(stage.parameters)
    indices, box, value = own["indices"], own["box"], own["value"]
    assert isinstance(indices, tuple)
    assert isinstance(box, tuple)
    loops = iterators(own["loops"])
    extents = {i: evaluate(index(i.extent), sizes) for i in loops}
    lows: dict[Iter, int] = dict.fromkeys(loops, 0)
    highs = dict(extents)
    for bound in box:
        assert isinstance(bound, tuple)
        (loop,) = iterators(bound[:1])
        low, high = (evaluate(b, sizes) for b in bound[1:] if isinstance(b, Index))
        lows[loop], highs[loop] = max(lows[loop], min(low, extents[loop])), min(highs[loop], high)
    inside = {i: max(0, highs[i] - lows[i]) for i in loops}
    view = StridedView.of([i for i in indices if isinstance(i, Index)], loops, sizes, lows, inside)
    around = [n for i in reversed(loops) for n in (lows[i], extents[i] - lows[i] - inside[i])]
    fill = function("aten.constant_pad_nd.default")

    def pad(source: torch.Tensor) -> torch.Tensor:
        padded: torch.Tensor = fill(view(source), around, value)
        return padded

    return Call("pad", pad, (Ref(stage.reads[0].name),), (), (stage.outs[0].name,))


BINDERS = {"pad.strided": bind_pad}
