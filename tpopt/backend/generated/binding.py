"""Kernel stages of a plan that are generated: the request for one, and the call that it becomes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import torch

from tpopt.backend.binding import Binder, KernelBinder
from tpopt.backend.build.link import NO_COMPILER, has_linker
from tpopt.backend.build.pool import build_pool
from tpopt.backend.build.request import BuildRequest, Built
from tpopt.backend.call import Call, Ref
from tpopt.backend.cuda import binding as cuda
from tpopt.backend.cuda import compilers
from tpopt.backend.cuda.driver import obstacle as driver_obstacle
from tpopt.backend.generated.constants import constants_of, positions, value_of
from tpopt.backend.generated.kernel import GeneratedKernel, reading
from tpopt.backend.generated.machine import Processor, host_processor
from tpopt.backend.generated.normal import algebra
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.native.launcher import launcher_status
from tpopt.ir import Kernel, Stage

IMPLEMENTATION: Final = "generated"
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
    foreign = positions(stage, FOREIGN)
    return KernelRequest.of(
        algebra(stage), constants_of(stage), processor, matrix=matrix, decisions=decisions, foreign=foreign
    )


def build_request(stage: Kernel, values: Mapping[str, torch.Tensor] = MappingProxyType({})) -> BuildRequest | None:
    """What the build workers are asked for a kernel; ``None`` for one that is not generated.

    It reads the tensors that ``values`` has by name as they lie in memory, and others as dense ones.
    """
    if stage.implementation == cuda.IMPLEMENTATION:
        return cuda.request_of(stage).build()
    if stage.implementation != IMPLEMENTATION:
        return None
    constants = constants_of(stage)
    args = {n: values[t.name] for n, t in enumerate(stage.reads) if n not in constants and t.name in values}
    return reading(request_of(stage), args).build()


def cannot_build(implementation: str) -> str | None:
    """Why no kernel of a kind can be built in this process; ``None`` where they can."""
    return compilers.obstacle() if implementation == cuda.IMPLEMENTATION else None if has_linker() else NO_COMPILER


def cannot_run(implementation: str) -> str | None:
    """Why no kernel of a kind can run in this process; ``None`` where they can."""
    if implementation == cuda.IMPLEMENTATION:
        return driver_obstacle()
    status = launcher_status()
    return status.reason if status.kind == "none" else None


def build_all(
    stages: Iterable[Stage],
    timeout_s: float | None = None,
    values: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> frozenset[Stage]:
    """Builds the generated kernels among these stages, in their order, and waits: nothing can be timed beside builds.

    One that fails says so when it is bound. Returns those that ``timeout_s`` seconds did not suffice to begin with, and
    that nobody built before. ``values`` are those of :func:`build_request`.
    """
    until = None if timeout_s is None else time.perf_counter() + timeout_s
    pending: set[Future[Built]] = set()
    late: list[Stage] = []
    for stage in stages:
        request = build_request(stage, values) if isinstance(stage, Kernel) else None
        if request is None:
            continue
        while until is not None and len(pending) >= AT_ONCE and time.perf_counter() < until:
            pending = wait(pending, max(until - time.perf_counter(), 0.0), FIRST_COMPLETED).not_done
        if until is not None and time.perf_counter() >= until and build_pool().cache.get(request.key) is None:
            late.append(stage)
            continue
        future = build_pool().submit(request)
        if not future.done():
            pending.add(future)
    wait(pending)
    return frozenset(late)


def bind_generated(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``generated``: the kernel with the model's weights as its constants."""
    constants, request = constants_of(stage), request_of(stage)
    kernel = binder.packed(
        (IMPLEMENTATION, stage, request.processor),
        lambda: GeneratedKernel(request, {n: value_of(stage.reads[n], binder) for n in constants}),
    )
    moving = tuple(Ref(t.name) for n, t in enumerate(stage.reads) if n not in constants)
    outs = tuple(o.name for o in stage.outs)
    return Call(IMPLEMENTATION, kernel, moving, (), outs, len(outs) == 1, into=kernel)


BINDERS: dict[str, KernelBinder] = {IMPLEMENTATION: bind_generated, **cuda.BINDERS}
