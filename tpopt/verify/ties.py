"""Indices compared by what they point at: an argmax may pick either of two values that rounding cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from tpopt.ir.build import apply, where
from tpopt.ir.dtypes import DType
from tpopt.ir.index import index
from tpopt.ir.program import Program
from tpopt.ir.stages import Compute, Sort, Stage, TopK
from tpopt.ir.terms import Cast, Read, Reduce, Scalar, Tensor, cast, const
from tpopt.ir.to_torch import to_torch

CHOSEN = "@chosen"


def tied(
    program: Program, name: str, inputs: Sequence[torch.Tensor], chosen: torch.Tensor, slack: float
) -> torch.Tensor | None:
    """Which elements of an index output point at values that tie with the best ones.

    Args:
        program: that computes the output.
        name: the output.
        inputs: of the program.
        chosen: the candidate's indices.
        slack: relative difference between values that counts as a tie.

    Returns:
        A mask, or None when the output is no index that an argmax, a sort or a top-k yields (perhaps through views).
    """
    found = _source(program, name)
    if found is None:
        return None
    stage, tensor, path = found
    shape = tensor.shape
    if path and not all(isinstance(e, int) for e in shape):
        return None
    picked = chosen.reshape([e for e in shape if isinstance(e, int)]) if path else chosen
    mask = _reduced(program, stage, tensor, inputs, picked, slack) if isinstance(stage, Compute) else None
    if isinstance(stage, (Sort, TopK)):
        mask = _sorted(program, stage, inputs, picked, slack)
    return None if mask is None else mask.reshape(chosen.shape)


def _source(program: Program, name: str) -> tuple[Stage, Tensor, bool] | None:
    """The stage that makes an index, the tensor it makes, and whether reshapes lie between it and the output."""
    tensor, moved = program.tensors[name], False
    while True:
        stage = program.producers.get(tensor)
        if isinstance(stage, (Sort, TopK)):
            return (stage, tensor, moved) if tensor is stage.indices else None
        if not isinstance(stage, Compute):
            return None
        body = _uncast(stage.bodies[stage.outs.index(tensor)])
        if isinstance(body, Reduce) and body.monoid in ("argmax", "argmin") and body.pick == 1:
            return stage, tensor, moved
        if not isinstance(body, Read) or not _keeps_order(body, stage):
            return None
        tensor, moved = body.tensor, True


def _uncast(term: Scalar) -> Scalar:
    while isinstance(term, Cast):
        term = term.value
    return term


def _keeps_order(read: Read, stage: Compute) -> bool:
    """Whether a view only adds or drops axes of extent 1."""
    used = [i for i in read.indices if i.terms]
    long = [index(i) for i in stage.loops if i.extent != 1]
    return [i for i in used if i in long] == long and all(i in map(index, stage.loops) for i in used)


def _reduced(
    program: Program, stage: Compute, tensor: Tensor, inputs: Sequence[torch.Tensor], chosen: torch.Tensor, slack: float
) -> torch.Tensor | None:
    """Evaluates the reduction again, over the chosen positions alone."""
    reduction = _uncast(stage.bodies[stage.outs.index(tensor)])
    assert isinstance(reduction, Reduce)
    value, place = reduction.bodies
    largest = reduction.monoid == "argmax"
    given = Tensor(CHOSEN, tensor.shape, DType.I64)
    worst = const(-float("inf") if largest else float("inf"), value.dtype) if value.dtype.is_float else None
    if worst is None:
        return None
    here = apply("eq", cast(place, DType.I64), given.at([*stage.loops]))
    there = Reduce("max" if largest else "min", reduction.iters, (where(here, value, worst),))
    best = Reduce(reduction.monoid, reduction.iters, reduction.bodies, 0)
    outs = tuple(Tensor(f"{CHOSEN}.{n}", tensor.shape, value.dtype) for n in ("there", "best"))
    before = program.stages[: program.stages.index(stage)]
    check = Compute(outs, stage.loops, (there, best))
    extended = replace(program, inputs=(*program.inputs, given), stages=(*before, check), outputs=outs, aliases=())
    got, wanted = to_torch(extended, dtype=torch.float64)(*inputs, chosen)
    return _close(got, wanted, slack)


def _close(got: torch.Tensor, wanted: torch.Tensor, slack: float) -> torch.Tensor:
    scale = wanted.abs().nan_to_num(0.0, 0.0, 0.0).max() if wanted.numel() else wanted.new_zeros(())
    return (got == wanted) | ((got - wanted).abs() <= slack * scale) | (got.isnan() & wanted.isnan())


def _sorted(
    program: Program, stage: Sort | TopK, inputs: Sequence[torch.Tensor], chosen: torch.Tensor, slack: float
) -> torch.Tensor | None:
    """Looks the chosen positions up; a position that is taken twice excuses nothing."""
    before = program.stages[: program.stages.index(stage)]
    cut = replace(program, stages=before, outputs=(stage.source,), aliases=())
    (source,) = to_torch(cut, dtype=torch.float64)(*inputs)
    if source.dim() == 0:
        return chosen == 0
    axis, extent = stage.axis, source.shape[stage.axis]
    ordered = chosen.sort(dim=axis).values
    if bool((ordered < 0).any() or (ordered >= extent).any() or (ordered.diff(dim=axis) == 0).any()):
        return None
    descending = stage.descending if isinstance(stage, Sort) else stage.largest
    wanted = source.sort(dim=axis, descending=descending, stable=True).values.narrow(axis, 0, chosen.shape[axis])
    got = source.gather(axis, chosen)
    if isinstance(stage, TopK) and not stage.sorted:
        got = got.sort(dim=axis, descending=descending).values
    return _close(got, wanted, slack)
