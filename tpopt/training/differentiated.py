"""Graphs of ``torch.compile`` that have to be differentiated, within a memory budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import default_partition

from tpopt.errors import UnsupportedModel
from tpopt.options import Options
from tpopt.passes.rematerialize import Search
from tpopt.training.budget import bytes_of
from tpopt.training.partition import Halves, Joint, run_boxed
from tpopt.training.plan import native_annealer, plan_step
from tpopt.training.report import StepReport

_log = logging.getLogger("tpopt")

SEARCH_SHARE = 0.25
"""Part of the effort that the search for a schedule takes."""


def within_budget(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    memory_budget: str | float,
    options: Options,
    reports: list[Any],
) -> Callable[..., Any]:
    """What runs a graph that Dynamo captured: forward and backward keep the budget together.

    Args:
        graph: what Dynamo captured.
        example_inputs: tensors and integers of the first call.
        memory_budget: bytes that forward and backward may allocate at one time, beyond parameters and inputs, with
            gradients: ``"1.5GiB"``, a number of bytes, or (up to 1) a part of what they take in the captured order.
        options: ``effort`` and ``seed`` count.
        reports: takes a :class:`StepReport`.

    Raises:
        UsageError: the budget is no budget.
        LimitExceeded: no schedule within the budget was found; the message has the lowest peak.
    """
    bytes_of(memory_budget, 1 << 40)  # what is no budget is refused before anything is traced
    search = Search("free", max(0.5, SEARCH_SHARE * options.effort_seconds()), None, options.seed)

    def cut(module: torch.fx.GraphModule, inputs: Any, *, num_fwd_outputs: int, **other: Any) -> Halves:
        try:
            joint = Joint.of(module, num_fwd_outputs)
        except UnsupportedModel as error:
            _log.warning("memory_budget does not hold for %s: %s", type(graph).__name__, error)
            return default_partition(module, inputs, num_fwd_outputs=num_fwd_outputs, **other)
        operations = joint.operations
        peak = max(operations.live_bytes(range(len(operations.items))), default=0)
        budget = bytes_of(memory_budget, peak)
        plan = plan_step(operations, budget, search, annealer=native_annealer())
        reports.append(StepReport.of(operations, plan, budget=budget, eager_peak=peak))
        return joint.cut(plan.sequence)

    run: Callable[..., Any] = aot_autograd(fw_compiler=run_boxed, bw_compiler=run_boxed, partition_fn=cut)(
        graph, example_inputs
    )
    return run
