"""Kernel stages of a plan that are generated: the request for one, and the call that it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import wait
from functools import lru_cache
from typing import Final

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.generated.kernel import GeneratedKernel, submit
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
KEPT_REQUESTS: Final = 4096
"""Requests remembered: a stage is asked for when it is offered, built, bound for its price and bound at last."""


def request_of(stage: Kernel) -> KernelRequest:
    """The request for a kernel of a plan. Raises :class:`KernelUnsupported` where there can be none."""
    return _request(stage, host_processor())


@lru_cache(maxsize=KEPT_REQUESTS)
def _request(stage: Kernel, processor: Processor) -> KernelRequest:
    matrix = bool(dict(stage.parameters).get(MATRIX, False))
    return KernelRequest.of(algebra(stage), constants_of(stage), processor, matrix=matrix)


def constants_of(stage: Kernel) -> tuple[int, ...]:
    """Positions of the tensors that a kernel reads and whose values never change."""
    found = dict(stage.parameters)[CONSTANTS]
    assert isinstance(found, tuple)
    return tuple(n for n in found if isinstance(n, int))


def build_all(stages: Iterable[Stage], timeout_s: float | None = None) -> None:
    """Builds the generated kernels among these stages, in parallel, and waits: nothing can be timed beside builds.

    One that fails says so when it is bound; what is not ready after ``timeout_s`` is waited for there.
    """
    wanted = [s for s in stages if isinstance(s, Kernel) and s.implementation == IMPLEMENTATION]
    wait([submit(request_of(s)) for s in wanted], timeout_s)


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
