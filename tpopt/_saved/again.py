"""Chooses kernels for a saved model on another machine: by the cost model, so that it takes a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tpopt.backend.binding import Binder
from tpopt.backend.machine import machine_fingerprint
from tpopt.backend.plan import LAYOUT_SUFFIX
from tpopt.choose.assemble import placed
from tpopt.choose.candidate import CHANNELS_LAST, ROW
from tpopt.choose.choose import choose
from tpopt.choose.gather import gather
from tpopt.choose.modelled import ModelPrices
from tpopt.choose.pricing import Pricer
from tpopt.cost_models.roofline import RooflineModel
from tpopt.ir import Kernel, Program, Stage, Tensor
from tpopt.ir.aten import to_numpy
from tpopt.ir.walk import map_stage_tensors
from tpopt.store.records import Records

if TYPE_CHECKING:
    import torch

    from tpopt._saved.load import SavedModel
    from tpopt.backend.plan import Plan
    from tpopt.options import Kernels


def is_offered(saved: SavedModel) -> bool:
    """Whether every library kernel of the plan is among those offered for the file's algebra, or for the plan's own.

    What a kernel's parameters say is believed of no file: they must be what the matcher writes. Generated kernels are
    made from their algebra, and need no such proof.
    """
    assert saved.plan is not None
    weights = saved.everything()
    algebra, expanded = (_with_values(p, weights) for p in (saved.algebra, _expanded(saved.plan.program)))
    found = gather(saved.original, (algebra, expanded), (), saved.device.type, "library")
    known = {placed(c) for c in found.admitted}
    kernels = (s for s in saved.plan.program.stages if isinstance(s, Kernel))
    return all(s in known for s in kernels if not s.implementation.startswith("generated"))


def _with_values(program: Program, weights: Mapping[str, torch.Tensor]) -> Program:
    """The program with the values of its weights, which matchers look at."""
    return replace(program, constants={w.name: to_numpy(weights[w.name]) for w in program.weights if w.name in weights})


def _expanded(program: Program) -> Program:
    """A plan with the algebra of its kernels in their place, and every value under the name that it has there."""
    stages: list[Stage] = []
    for stage in program.stages:
        if not isinstance(stage, Kernel):
            stages.append(map_stage_tensors(stage, _row_major))
        elif not _changes_layout(stage):
            stages += (map_stage_tensors(s, _row_major) for s in stage.defines)
    once = {stage.outs[0].name: stage for stage in stages if stage.outs}
    outputs = tuple(map(_row_major, program.outputs))
    return replace(program, stages=tuple(once.values()), outputs=outputs)


def _changes_layout(kernel: Kernel) -> bool:
    """Whether it copies a value to another layout, and computes nothing."""
    return list(map(_row_major, kernel.reads)) == list(map(_row_major, kernel.outs))


def _row_major(tensor: Tensor) -> Tensor:
    if tensor.layout != CHANNELS_LAST:
        return tensor
    return Tensor(tensor.name.removesuffix(LAYOUT_SUFFIX), tensor.shape, tensor.dtype, ROW, tensor.structure)


def chosen_again(saved: SavedModel, kernels: str) -> Plan:
    """A plan of this machine's kernels for the program of a file; with ``"library"`` nothing has to be built."""
    weights = saved.everything()
    wanted: Kernels = "all" if kernels == "all" else "generated" if kernels == "generated" else "library"
    algebra = _with_values(saved.algebra, weights)
    found = gather(saved.original, (algebra,), (), saved.device.type, wanted)
    model = ModelPrices(algebra, saved.sizes, RooflineModel())
    records = Records(None, machine_fingerprint(saved.device))
    pricer = Pricer(model, records, Binder(weights), saved.sizes, None, time.perf_counter())
    return choose(saved.original, (algebra,), found, pricer, wanted).plan
