"""Index maps that move no data: a tensor read at affine indices is a strided view of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Index, Iter, Kernel, Program, Read, Symbol
from tpopt.ir.index import evaluate, index

KIND = "view"


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every stage whose body is one read at indices affine in its loops."""
    made = set(program.weights)
    for stage in program.stages:
        if not isinstance(stage, Compute) or len(stage.bodies) != 1 or not isinstance(stage.bodies[0], Read):
            continue
        read = stage.bodies[0]
        if not all(_affine(i) for i in read.indices):
            continue
        out = stage.outs[0]
        kernel = Kernel(
            (out,), "view.strided", (read.tensor,), (stage,), (("indices", read.indices), ("loops", _loops(stage)))
        )
        needs = () if read.tensor in made else (Value(read.tensor.name),)
        key = kernel_key(kernel, "")
        found.add(
            Candidate(f"{out.name}:view", KIND, kernel, needs, (Value(out.name),), key, covers=(out.name,), free=True)
        )


def _loops(stage: Compute) -> tuple[Index, ...]:
    return tuple(index(i) for i in stage.loops)


def _affine(where: Index) -> bool:
    """A sum of iterators with coefficients that hold no iterator and are not negative (torch has no such strides)."""
    for coefficient, atoms in where.terms:
        iterators = [a for a in atoms if isinstance(a, Iter)]
        if len(iterators) > 1 or any(not isinstance(a, (Iter, Symbol)) for a in atoms):
            return False
        if iterators and coefficient < 0:
            return False
    return True


def bind_view(stage: Kernel, _binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``view.strided``: strides of the source times the coefficients of each loop."""
    own = dict(stage.parameters)
    indices, loops = own["indices"], own["loops"]
    assert isinstance(indices, tuple)
    assert isinstance(loops, tuple)
    iterators = [i.atoms[0] for i in loops if isinstance(i, Index)]
    shape = [evaluate(index(e), sizes) for e in stage.outs[0].shape]
    plain = [i for i in indices if isinstance(i, Index)]
    steps = [[evaluate(i.coefficient(loop), sizes) for i in plain] for loop in iterators]
    zero = {**sizes, **{loop.name: 0 for loop in iterators if isinstance(loop, Iter)}}
    starts = [evaluate(i, zero) for i in plain]

    def view(source: torch.Tensor) -> torch.Tensor:
        own_strides = source.stride()
        strides = [sum(c * s for c, s in zip(row, own_strides, strict=True)) for row in steps]
        offset = source.storage_offset() + sum(c * s for c, s in zip(starts, own_strides, strict=True))
        return source.as_strided(shape, strides, offset)

    return Call("strided view", view, (Ref(stage.reads[0].name),), (), (stage.outs[0].name,))


BINDERS = {"view.strided": bind_view}
