"""Which kernels of a model are worth tuning: those that generated candidates stand for, by the time they may take."""

from __future__ import annotations

from typing import Any

import torch

from tpopt.backend.generated.binding import IMPLEMENTATION, MATRIX, SCHEDULE, request_of
from tpopt.backend.tvm.tune.tasks import Task
from tpopt.choose.gather import gather
from tpopt.choose.modelled import ModelPrices
from tpopt.choose.pricing import planned
from tpopt.errors import KernelUnsupported
from tpopt.frontend.trace import trace
from tpopt.ir import Kernel
from tpopt.options import Options
from tpopt.rewrite import Trace, forms, registry


def tasks_of(model: torch.nn.Module, args: Any, kwargs: dict[str, Any], options: Options, most: int) -> list[Task]:
    """Up to ``most`` different kernels of a model, those first that take longest by the roofline, repeats counted.

    Kernels on the matrix unit have no loops to tune, and are left out.
    """
    traced = trace(model, args, kwargs, None)
    found_forms = forms(registry().parse(options.pipeline), traced.algebra, Trace())
    found = gather(traced.original, found_forms, options.exclude)
    prices = ModelPrices(traced.algebra, {s.name: max(s.low, 1) for s in traced.algebra.symbols})
    weight: dict[str, float] = {}
    tasks: dict[str, Task] = {}
    for candidate in found.admitted:
        stage = planned(candidate)
        if not isinstance(stage, Kernel) or stage.implementation != IMPLEMENTATION:
            continue
        if {MATRIX, SCHEDULE} & dict(stage.parameters).keys():
            continue
        try:
            request = request_of(stage)
            _ = request.space
        except KernelUnsupported:
            continue
        tasks.setdefault(request.identity, Task(candidate.name, candidate.kind, request))
        weight[request.identity] = weight.get(request.identity, 0.0) + prices.price(candidate)
    ranked = sorted(tasks.items(), key=lambda pair: (-weight[pair[0]], pair[1].name))
    return [task for _, task in ranked[:most]]
