"""Index maps that move no data: a tensor read at affine indices is a strided view of it."""

from __future__ import annotations

from collections.abc import Mapping

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.strided import StridedView, affine
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Index, Iter, Kernel, Program, Read
from tpopt.ir.index import index
from tpopt.ir.stages import Attribute

KIND = "view"


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every stage whose body is one read at indices affine in its loops."""
    made = set(program.weights)
    for stage in program.stages:
        if not isinstance(stage, Compute) or len(stage.bodies) != 1 or not isinstance(stage.bodies[0], Read):
            continue
        read = stage.bodies[0]
        if not all(affine(i) for i in read.indices):
            continue
        out = stage.outs[0]
        parameters = (("indices", read.indices), ("loops", tuple(index(i) for i in stage.loops)))
        kernel = Kernel((out,), "view.strided", (read.tensor,), (stage,), parameters)
        needs = () if read.tensor in made else (Value(read.tensor.name),)
        key = kernel_key(kernel, "")
        found.add(
            Candidate(f"{out.name}:view", KIND, kernel, needs, (Value(out.name),), key, covers=(out.name,), free=True)
        )


def iterators(loops: Attribute) -> tuple[Iter, ...]:
    """The iterators of a parameter that holds each of them as an index."""
    assert isinstance(loops, tuple)
    return tuple(i.atoms[0] for i in loops if isinstance(i, Index) and isinstance(i.atoms[0], Iter))


def bind_view(stage: Kernel, _binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``view.strided``: strides of the source times the coefficients of each loop."""
    own = dict(stage.parameters)
    indices = own["indices"]
    assert isinstance(indices, tuple)
    view = StridedView.of([i for i in indices if isinstance(i, Index)], iterators(own["loops"]), sizes)
    return Call("strided view", view, (Ref(stage.reads[0].name),), (), (stage.outs[0].name,))


BINDERS = {"view.strided": bind_view}
