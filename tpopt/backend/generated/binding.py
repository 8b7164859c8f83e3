"""Kernel stages of a plan that are generated: the request for one, and the call that it becomes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import lru_cache
from typing import Final

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.build.request import Built
from tpopt.backend.call import Call, Ref
from tpopt.backend.generated.kernel import GeneratedKernel, is_built, submit
from tpopt.backend.generated.machine import Processor, host_processor
from tpopt.backend.generated.normal import algebra
from tpopt.backend.generated.request import KernelRequest
from tpopt.ir import Kernel, Stage, Tensor, aten
from tpopt.ir.materialize import materialize

IMPLEMENTATION: Final = "generated"
CONSTANTS: Final = "constants"
"""The parameter of a generated Kernel that lists the positions of what it reads and never changes."""
MATRIX: Final = "matrix"
"""The parameter of a generated Kernel that runs on the matrix unit."""
FOREIGN: Final = "foreign"
"""The parameter of a generated Kernel that lists the positions of what it reads under guards from outside the plan."""
SCHEDULE: Final = "schedule"
"""The parameter of a generated Kernel whose loops run as tuning decided."""
AT_ONCE: Final = 8
"""Kernels handed to the workers at a time: what they have begun cannot be taken back."""
KEPT_REQUESTS: Final = 4096
"""Requests remembered: a stage is asked for when it is offered, built, bound for its price and bound at last."""


def request_of(stage: Kernel) -> KernelRequest:
    """The request for a kernel of a plan. Raises :class:`KernelUnsupported` where there can be none."""
    return _request(stage, host_processor())


@lru_cache(maxsize=KEPT_REQUESTS)
def _request(stage: Kernel, processor: Processor) -> KernelRequest:
    parameters = dict(stage.parameters)
    matrix, decisions = bool(parameters.get(MATRIX, False)), str(parameters.get(SCHEDULE, ""))
    foreign = _positions(stage, FOREIGN)
    return KernelRequest.of(
        algebra(stage), constants_of(stage), processor, matrix=matrix, decisions=decisions, foreign=foreign
    )


def constants_of(stage: Kernel) -> tuple[int, ...]:
    """Positions of the tensors that a kernel reads and whose values never change."""
    return _positions(stage, CONSTANTS)


def _positions(stage: Kernel, parameter: str) -> tuple[int, ...]:
    found = dict(stage.parameters).get(parameter, ())
    assert isinstance(found, tuple)
    return tuple(n for n in found if isinstance(n, int))


def build_all(stages: Iterable[Stage], timeout_s: float | None = None) -> frozenset[Stage]:
    """Builds the generated kernels among these stages, in their order, and waits: nothing can be timed beside builds.

    One that fails says so when it is bound. Returns those that ``timeout_s`` seconds did not suffice to begin with, and
    that nobody built before.
    """
    until = None if timeout_s is None else time.perf_counter() + timeout_s
    pending: set[Future[Built]] = set()
    late: list[Stage] = []
    for stage in stages:
        if not isinstance(stage, Kernel) or stage.implementation != IMPLEMENTATION:
            continue
        request = request_of(stage)
        while until is not None and len(pending) >= AT_ONCE and time.perf_counter() < until:
            pending = wait(pending, max(until - time.perf_counter(), 0.0), FIRST_COMPLETED).not_done
        if until is not None and time.perf_counter() >= until and not is_built(request):
            late.append(stage)
            continue
        future = submit(request)
        if not future.done():
            pending.add(future)
    wait(pending)
    return frozenset(late)


def bind_generated(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``generated``: the kernel with the model's weights as its constants."""
    constants, request = constants_of(stage), request_of(stage)
    kernel = binder.packed(
        (IMPLEMENTATION, stage, request.processor),
        lambda: GeneratedKernel(request, {n: _value(stage.reads[n], binder) for n in constants}),
    )
    moving = tuple(Ref(t.name) for n, t in enumerate(stage.reads) if n not in constants)
    outs = tuple(o.name for o in stage.outs)
    return Call(IMPLEMENTATION, kernel, moving, (), outs, len(outs) == 1, into=kernel)


def _value(tensor: Tensor, binder: Binder) -> torch.Tensor:
    """A constant: the model's own, or the one that its formula stands for."""
    if tensor.name in binder.weights:
        return binder.weights[tensor.name]
    made: torch.Tensor = torch.from_numpy(materialize(tensor)).to(aten.torch_dtype(tensor.dtype))
    return made


BINDERS = {IMPLEMENTATION: bind_generated}
