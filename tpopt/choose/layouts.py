"""Layout conversions as candidates: a value in channels-last can become row-major, and the other way round."""

from __future__ import annotations

from tpopt.backend.generated.candidates import converting
from tpopt.choose.candidate import CHANNELS_LAST, ROW, Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Kernel, Tensor
from tpopt.ir.build import iters


def layout_candidates(tensors: dict[str, Tensor], found: Candidates, *, generate: bool = False) -> None:
    """Adds both conversions for every tensor that some candidate takes or makes in channels-last.

    The library's go over memory element by element; those that are generated turn squares of elements in registers.
    """
    wanted: dict[str, None] = {}
    for candidate in found.admitted:
        for value in (*candidate.needs, *candidate.produces):
            if value.layout == CHANNELS_LAST:
                wanted[value.name] = None
    for name in wanted:
        tensor = tensors[name]
        for source, target in ((ROW, CHANNELS_LAST), (CHANNELS_LAST, ROW)):
            stage = conversion(tensor, target)
            label = f"{name}:to-{target or 'row-major'}"
            needs, makes = (Value(name, source),), (Value(name, target),)
            found.add(Candidate(label, "layout", stage, needs, makes, kernel_key(stage, target), covers=()))
            made = converting(found.admitted[-1]) if generate else None
            found.admitted += [] if made is None else [made]


def conversion(tensor: Tensor, layout: str) -> Kernel:
    """A copy of ``tensor`` in another layout, under a private name that the plan replaces."""
    out = Tensor(f"{tensor.name}.copy", tensor.shape, tensor.dtype)
    loops = iters("i", tensor.shape)
    copy = Compute((out,), loops, (tensor.at(loops),))
    return Kernel((out,), "layout", (tensor,), (copy,), (("layout", layout),))
