"""Kernel stages of a plan that are generated for a GPU: the request for one, and the call that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from tpopt.backend.binding import Binder, KernelBinder
from tpopt.backend.call import Call, Ref
from tpopt.backend.cuda.device import Device
from tpopt.backend.cuda.kernel import CudaKernel
from tpopt.backend.cuda.request import CudaRequest
from tpopt.backend.generated.constants import constants_of, value_of
from tpopt.backend.generated.normal import algebra
from tpopt.ir import Kernel

IMPLEMENTATION: Final = "generated.cuda"
ARCH: Final = "arch"
MULTIPROCESSORS: Final = "multiprocessors"


@lru_cache(maxsize=4096)
def request_of(stage: Kernel) -> CudaRequest:
    """The request for a kernel of a plan. Raises :class:`KernelUnsupported` where there can be none."""
    facts = dict(stage.parameters)
    count = facts[MULTIPROCESSORS]
    assert isinstance(count, int)
    return CudaRequest.of(algebra(stage), Device(str(facts[ARCH]), count))


def bind_generated(stage: Kernel, binder: Binder, _sizes: Mapping[str, int]) -> Call:
    """``generated.cuda``: the kernel with the model's weights as its constants."""
    constants, request = constants_of(stage), request_of(stage)
    kernel = binder.packed(
        (IMPLEMENTATION, stage),
        lambda: CudaKernel(request, {n: value_of(stage.reads[n], binder) for n in constants}),
    )
    moving = tuple(Ref(t.name) for n, t in enumerate(stage.reads) if n not in constants)
    outs = tuple(o.name for o in stage.outs)
    return Call(IMPLEMENTATION, kernel, moving, (), outs, len(outs) == 1, into=kernel)


BINDERS: dict[str, KernelBinder] = {IMPLEMENTATION: bind_generated}
