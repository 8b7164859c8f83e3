"""The roofline price of a candidate, from the work of the algebra it stands for."""

from __future__ import annotations

from collections.abc import Mapping

from tpopt.backend.generated.binding import MATRIX, SCHEDULE
from tpopt.choose.candidate import CHANNELS_LAST, Candidate
from tpopt.choose.models import KernelPrices
from tpopt.cost_models.roofline import RooflineModel
from tpopt.ir import Kernel, Program, Stage, Tensor
from tpopt.ir.index import evaluate, index
from tpopt.ir.walk import stage_reads
from tpopt.ir.work import stage_work

VIEW_US = 1.0
MATRIX_UNIT = 1.01
"""What a kernel on the matrix unit costs against one without it: the model's machine has none, so that choices by the
model alone are the same everywhere."""
TUNED = 0.97
"""Share of the price of a kernel's own schedule that loops take which tuning found: they surely gain that at least."""
FURTHER_PART = 0.05
"""What each part of a sum after the first adds to a kernel's price (10 to 20 % measured for four parts)."""
CHANNELS_LAST_CONVOLUTION = 0.8
"""Share of the row-major price that a convolution costs in channels-last (oneDNN's blocked kernels skip a reorder)."""


class ModelPrices:
    """Prices by a cost model; the algebra of an original operator lies between its outputs and its inputs."""

    def __init__(self, algebra: Program, sizes: Mapping[str, int], model: KernelPrices | None = None) -> None:
        self._algebra, self._sizes, self._model = algebra, sizes, model or RooflineModel()

    def price(self, candidate: Candidate) -> float:
        """Microseconds."""
        if candidate.free:
            return VIEW_US
        macs = flops = 0.0
        for stage in self._defines(candidate):
            work = stage_work(stage, self._sizes)
            macs, flops = macs + work.macs, flops + work.flops
        traffic = sum(self._bytes(t) for t in (*stage_reads(candidate.stage), *candidate.stage.outs))
        us: float = self._model.price(candidate.kind, macs, flops, traffic)
        if isinstance(candidate.stage, Kernel):
            parts = dict(candidate.stage.parameters).get("parts", 1)
            us *= MATRIX_UNIT if dict(candidate.stage.parameters).get(MATRIX) else 1.0
            us *= TUNED if dict(candidate.stage.parameters).get(SCHEDULE) else 1.0
            us *= 1 + FURTHER_PART * (parts - 1 if isinstance(parts, int) else 0)
        image = any(v.layout == CHANNELS_LAST for v in candidate.needs)
        return us * (CHANNELS_LAST_CONVOLUTION if image and macs and candidate.kind != "layout" else 1.0)

    def _defines(self, candidate: Candidate) -> list[Stage]:
        if isinstance(candidate.stage, Kernel) and candidate.stage.defines:
            return list(candidate.stage.defines)
        return stages_between(self._algebra, candidate.stage)

    def _bytes(self, tensor: Tensor) -> int:
        total = tensor.dtype.itemsize
        for extent in tensor.shape:
            total *= evaluate(index(extent), self._sizes)
        return total


def stages_between(algebra: Program, call: Stage) -> list[Stage]:
    """The stages of ``algebra`` that compute the outputs of an original call from what it reads."""
    stop = set(stage_reads(call))
    found: dict[Stage, None] = {}
    pending = list(call.outs)
    while pending:
        stage = algebra.producers.get(pending.pop())
        if stage is None or stage in found:
            continue
        found[stage] = None
        pending.extend(t for t in stage_reads(stage) if t not in stop)
    return list(found)
