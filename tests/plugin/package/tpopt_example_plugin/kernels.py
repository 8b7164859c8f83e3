"""A kernel: the sum of all elements of a vector, by numpy."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.ir import Compute, Kernel, Program, Read, Reduce
from tpopt.rewrite.numerics import Numerics

IMPLEMENTATION = "example.sum"


def candidates(program: Program, found: Candidates) -> None:
    """Adds a candidate for every stage that sums a computed vector."""
    weights = set(program.weights)
    for stage in program.stages:
        if not isinstance(stage, Compute) or stage.loops or not isinstance(stage.bodies[0], Reduce):
            continue
        (body,) = stage.bodies[0].bodies[:1]
        if (
            stage.bodies[0].monoid != "sum"
            or not isinstance(body, Read)
            or body.tensor.rank != 1
            or body.tensor in weights
        ):
            continue
        out = stage.outs[0]
        kernel = Kernel((out,), IMPLEMENTATION, (body.tensor,), (stage,))
        found.add(
            Candidate(
                f"{out.name}:example", "example", kernel, (Value(body.tensor.name),), (Value(out.name),),
                f"{IMPLEMENTATION} {body.tensor.shape}", Numerics.REASSOCIATING, (out.name,),
            )
        )  # fmt: skip


def bind(stage: Kernel, _binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """The call of one stage."""
    return Call(IMPLEMENTATION, _sum, (Ref(stage.reads[0].name),), (), (stage.outs[0].name,))


def _sum(x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(x.numpy().sum())


BINDERS = {IMPLEMENTATION: bind}
