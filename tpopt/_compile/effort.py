"""Arithmetic and traffic before and after, from the algebra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpopt.backend.plan import Plan
from tpopt.ir import Kernel, Opaque, Stage, Tensor
from tpopt.ir.index import evaluate, index
from tpopt.ir.walk import stage_reads
from tpopt.ir.work import stage_work
from tpopt.report import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tpopt._compile.attempt import Attempt


def work_of(attempt: Attempt, plan: Plan | None) -> Work:
    """Multiply-adds and bytes of the traced operators and of the plan's kernels; nothing when there was no trace."""
    if attempt.traced is None:
        return Work()
    algebra, original, sizes = attempt.traced.algebra, attempt.traced.original, attempt.sizes
    before = sum(int(stage_work(s, sizes).macs) for s in algebra.stages if not isinstance(s, Opaque))
    opaque = sum(opaque_macs(s, sizes) for s in algebra.stages if isinstance(s, Opaque))
    total = before + opaque
    after = total
    steps: Iterable[Stage] = original.stages
    if plan is not None:
        steps = [s.stage for s in plan.steps]
        own = {id(s): s for k in steps if isinstance(k, Kernel) for s in k.defines}
        after = sum(int(stage_work(s, sizes).macs) for s in own.values())
        after += sum(_original_macs(attempt, s) for s in steps if isinstance(s, Opaque))
    return Work(
        macs_before=total,
        macs_after=after,
        bytes_before=_traffic(original.stages, sizes),
        bytes_after=_traffic(steps, sizes),
        macs_algebra_share=before / total if total else 1.0,
        macs_opaque=opaque,
    )


def _original_macs(attempt: Attempt, stage: Opaque) -> int:
    """Multiply-adds of the algebra between an original operator's inputs and outputs."""
    from tpopt.choose.modelled import stages_between

    assert attempt.traced is not None
    own = stages_between(attempt.traced.algebra, stage)
    return sum(
        opaque_macs(s, attempt.sizes) if isinstance(s, Opaque) else int(stage_work(s, attempt.sizes).macs) for s in own
    )


def opaque_macs(stage: Opaque, sizes: Mapping[str, int]) -> int:
    """Multiply-adds of an operator without algebra: what torch's flop counter knows by shapes, or 0."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tpopt.ir import aten

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        tensors = {t.name: torch.empty(_shape(t, sizes), dtype=aten.torch_dtype(t.dtype)) for t in stage_reads(stage)}
        try:
            aten.call(stage, tensors, sizes)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return 0
    return int(counter.get_total_flops()) // 2


def _shape(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(index(e), sizes) for e in tensor.shape)


def _traffic(stages: Iterable[Stage], sizes: Mapping[str, int]) -> int:
    total = 0
    for stage in stages:
        for tensor in (*stage_reads(stage), *stage.outs):
            count = tensor.dtype.itemsize
            for extent in _shape(tensor, sizes):
                count *= extent
            total += count
    return total
