"""Channels-last tensors as kernels see them: dense row-major ones whose axes stand in the order of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from tpopt.choose.candidate import CHANNELS_LAST
from tpopt.errors import KernelUnsupported
from tpopt.ir import Compute, Program, Read, Scalar, Tensor
from tpopt.ir.walk import rebuild, tensors_of_indices
from tpopt.rewrite.stages import term_indices

MEMORY: Final = (0, 2, 3, 1)
"""Axes of a channels-last tensor in the order of memory."""
LOGICAL: Final = (0, 3, 1, 2)
"""The other way round."""

T = TypeVar("T")


def in_order(items: Sequence[T], axes: Sequence[int]) -> tuple[T, ...]:
    """Items picked in an order."""
    return tuple(items[a] for a in axes)


def physical(program: Program) -> tuple[Program, tuple[int, ...]]:
    """The same algebra over tensors as they lie in memory, and which inputs and outputs had other axes before.

    The latter are positions among the inputs followed by the outputs. What stages hand to each other lies as the
    channels-last tensors do. Raises :class:`KernelUnsupported` where a stage writes in two layouts, or where such a
    tensor is an index.
    """
    given = (*program.inputs, *program.outputs)
    found = tuple(n for n, t in enumerate(given) if t.layout == CHANNELS_LAST)
    if not found:
        return program, ()
    private = [o for s in program.stages for o in s.outs if o not in given and o.rank == len(MEMORY)]
    moved = {t: _moved(t) for t in (*(given[n] for n in found), *private)}
    stages = tuple(_stage(s, moved) for s in program.stages if isinstance(s, Compute))
    if len(stages) < len(program.stages):
        raise KernelUnsupported("only computed stages are written in channels-last")
    inputs, outputs = (tuple(moved.get(t, t) for t in ts) for ts in (program.inputs, program.outputs))
    return replace(program, inputs=inputs, stages=stages, outputs=outputs), found


def _moved(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=in_order(tensor.shape, MEMORY), layout="")


def _stage(stage: Compute, moved: Mapping[Tensor, Tensor]) -> Compute:
    looked_up = tensors_of_indices(term_indices(*stage.bodies))
    if any(t in moved for t in looked_up):
        raise KernelUnsupported("a tensor of indices lies in channels-last")
    written = [o in moved for o in stage.outs]
    if any(written) and not all(written):
        raise KernelUnsupported("a stage would write its results in two layouts")

    def one(term: Scalar) -> Scalar:
        if isinstance(term, Read) and term.tensor in moved:
            return Read(moved[term.tensor], in_order(term.indices, MEMORY))
        return term

    loops = in_order(stage.loops, MEMORY) if all(written) else stage.loops
    bodies = tuple(rebuild(b, one) for b in stage.bodies)
    return Compute(tuple(moved.get(o, o) for o in stage.outs), loops, bodies)
