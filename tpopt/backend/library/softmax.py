"""Recognises ``softmax(mask(scale * scores))`` along the last axis, as the frontend writes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tpopt.backend.library.contraction import Contraction, match_contraction
from tpopt.backend.library.epilogue import at_point
from tpopt.ir import Apply, Compute, Const, Program, Read, Reduce, Tensor

NO_SOFTMAX = "no operand is a softmax along its last axis"


@dataclass(frozen=True)
class Mask:
    """A constant over the scores: ``added`` to them, or a bool that says where they are ``visible`` or ``hidden``.

    Hidden scores are ``fill``. ``stage`` applies it.
    """

    read: Read
    stage: Compute
    mode: str
    fill: float = 0.0


@dataclass(frozen=True)
class Weights:
    """``softmax(scale * scores + mask)``; ``stages`` are all from the scores' own to the last, in order."""

    scores: Contraction
    scale: float
    mask: Mask | None
    stages: tuple[Compute, ...]


def match_weights(program: Program, tensor: Tensor) -> Weights | str:
    """The attention weights that a tensor holds, or why it holds none."""
    last = _single(program, tensor)
    share = _share(last) if last is not None else None
    if last is None or share is None:
        return NO_SOFTMAX
    scores, tops = share
    peaks = program.producers.get(tops[0].tensor)
    if not isinstance(peaks, Compute) or not _are_peaks(peaks, scores.tensor, tops):
        return NO_SOFTMAX
    return _scores(program, scores.tensor, (peaks, last))


def _single(program: Program, tensor: Tensor) -> Compute | None:
    stage = program.producers.get(tensor)
    return stage if isinstance(stage, Compute) and len(stage.bodies) == 1 else None


def _share(stage: Compute) -> tuple[Read, tuple[Read, Read]] | None:
    """``exp(x - top) / mass``: what is read, all of it at the stage's own point."""
    match stage.bodies[0]:
        case Apply("div", (Apply("exp", (Apply("sub", (Read() as x, Read() as top)),)), Read() as mass)):
            if at_point(x, stage.loops) and all(at_point(r, stage.loops[:-1]) for r in (top, mass)):
                return x, (top, mass)
    return None


def _are_peaks(stage: Compute, x: Tensor, reads: tuple[Read, Read]) -> bool:
    """Whether a stage computes the maxima of ``x`` along its last axis and the sums of ``exp(x - maximum)``."""
    if tuple(r.tensor for r in reads) != stage.outs or len(stage.bodies) != 2:
        return False
    for pick, body in enumerate(stage.bodies):
        if not isinstance(body, Reduce) or (body.monoid, body.pick, len(body.iters)) != ("logsumexp", pick, 1):
            return False
        value, one = body.bodies
        if not (isinstance(value, Read) and value.tensor is x and isinstance(one, Const) and one.value == 1):
            return False
        if not at_point(value, (*stage.loops, *body.iters)):
            return False
    return True


def _scores(program: Program, tensor: Tensor, stages: tuple[Compute, ...]) -> Weights | str:
    """Goes back from what softmax takes to the product of queries and keys."""
    scale, mask = 1.0, None
    while True:
        stage = _single(program, tensor)
        if stage is None:
            return "what softmax takes is no product"
        product, factor = _product(stage)
        if isinstance(product, Contraction):
            if product.bias is not None:
                return "the scores have a bias of their own"
            return Weights(product, scale * factor, mask, (stage, *stages))
        step = _scaled(stage) or _masked(program, stage)
        if step is None:
            return "between the scores and softmax is more than a scale and a constant mask"
        source, change = step
        if isinstance(change, Mask):
            if mask is not None or scale != 1.0:
                return "the scores are masked before they are scaled, or twice"
            mask = change
        else:
            scale *= change
        tensor, stages = source, (stage, *stages)


def _product(stage: Compute) -> tuple[Contraction | str, float]:
    """The product that a stage computes, and the number that it multiplies every element with."""
    match stage.bodies[0]:
        case Apply("mul", (Reduce() as sums, Const(value=by))) | Apply("mul", (Const(value=by), Reduce() as sums)):
            return match_contraction(replace(stage, bodies=(sums,))), float(by.real)
    return match_contraction(stage), 1.0


def _scaled(stage: Compute) -> tuple[Tensor, float] | None:
    match stage.bodies[0]:
        case Apply("mul", (Read() as x, Const(value=value))) | Apply("mul", (Const(value=value), Read() as x)):
            return (x.tensor, float(value.real)) if at_point(x, stage.loops) else None
        case Apply("div", (Read() as x, Const(value=value))):
            return (x.tensor, 1.0 / float(value.real)) if at_point(x, stage.loops) and value else None
    return None


def _masked(program: Program, stage: Compute) -> tuple[Tensor, Mask] | None:
    match stage.bodies[0]:
        case Apply("add", (Read() as x, Read() as y)):
            for read, other in ((x, y), (y, x)):
                if at_point(read, stage.loops) and other.tensor.name in program.constants:
                    return read.tensor, Mask(other, stage, "added")
        case Apply("where", (Read() as mask, Const(value=fill), Read() as x)):
            return _hidden(program, stage, mask, x, fill, "hidden")
        case Apply("where", (Read() as mask, Read() as x, Const(value=fill))):
            return _hidden(program, stage, mask, x, fill, "visible")
    return None


def _hidden(
    program: Program, stage: Compute, mask: Read, x: Read, fill: complex, mode: str
) -> tuple[Tensor, Mask] | None:
    known = mask.tensor.name in program.constants
    return (x.tensor, Mask(mask, stage, mode, float(fill.real))) if known and at_point(x, stage.loops) else None
