"""A generated kernel: built in a worker, loaded, and handed its constants and the memory of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tpopt.backend.build.link import NO_COMPILER, has_linker
from tpopt.backend.build.pool import build_pool
from tpopt.backend.generated.arguments import arranged
from tpopt.backend.generated.packing import packed, split
from tpopt.backend.generated.physical import LOGICAL, MEMORY, in_order
from tpopt.backend.generated.plan import KernelPlan
from tpopt.backend.generated.request import FUNCTION, KernelRequest
from tpopt.backend.generated.sizes import shape
from tpopt.backend.native.launcher import launcher_status
from tpopt.backend.native.loading import load_kernel
from tpopt.errors import KernelBuildFailed
from tpopt.ir import Tensor, aten


def obstacle() -> str | None:
    """Why no kernel can be built or run in this process; ``None`` where they can."""
    if not has_linker():
        return f"no kernel can be built: {NO_COMPILER}"
    status = launcher_status()
    return f"no kernel can run: {status.reason}" if status.kind == "none" else None


def reading(request: KernelRequest, args: Mapping[int, torch.Tensor]) -> KernelRequest:
    """The request for inputs that lie in memory as these do, by position; the others are dense."""
    formats = dict.fromkeys(request.channels_last, torch.channels_last)
    strides = {
        n: in_order(a.stride(), MEMORY if n in formats else range(a.dim()))
        for n, a in args.items()
        if not a.is_contiguous(memory_format=formats.get(n, torch.contiguous_format))
    }
    return request.strided(strides) if strides else request


def _built(request: KernelRequest) -> Path:
    return build_pool().submit(request.build()).result().path


class GeneratedKernel:
    """The machine code of one request, and of the same algebra for inputs laid out in other ways.

    ``constants`` has the value of each constant input by its position. ``build`` gives the file of its machine code.
    Calls may come from several threads.
    """

    def __init__(
        self,
        request: KernelRequest,
        constants: Mapping[int, torch.Tensor],
        build: Callable[[KernelRequest], Path] | None = None,
    ) -> None:
        self.request = request
        self._build = build or _built
        self.packed_bytes = 0
        self._constants = dict(constants)
        self._moving = [n for n in range(len(request.program.inputs)) if n not in self._constants]
        self._functions: dict[KernelRequest, Callable[..., None]] = {}
        first = len(request.program.inputs)
        self._formats = dict.fromkeys(request.channels_last, torch.channels_last)
        self._fresh = [self._allocator(first + n, t) for n, t in enumerate(request.program.outputs)]

    def fresh(self) -> list[Callable[[], torch.Tensor]]:
        """For each result a function that allocates a tensor for it."""
        return self._fresh

    def prepare(self) -> None:
        """Builds and loads it for dense inputs. Raises :class:`KernelBuildFailed`."""
        self._function(self.request)

    def at(self, args: Sequence[torch.Tensor]) -> Callable[..., None]:
        """The function for inputs with the strides of these; where none can be built, it copies them first."""
        formats = [self._formats.get(n, torch.contiguous_format) for n in self._moving]
        request = reading(self.request, dict(zip(self._moving, args, strict=True)))
        try:
            return self._function(request)
        except KernelBuildFailed:
            if not request.strides:
                raise
        return partial(_on_copies, self._function(self.request), formats)

    def __call__(self, *args: torch.Tensor) -> Any:
        """Runs it on inputs of any strides; the results are new tensors."""
        outs = [allocate() for allocate in self._fresh]
        self.at(args)(*args, *outs)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _allocator(self, position: int, tensor: Tensor) -> Callable[[], torch.Tensor]:
        """What makes memory for an output; ``position`` counts inputs first."""
        logical = in_order(shape(tensor), LOGICAL if position in self._formats else range(tensor.rank))
        memory = self._formats.get(position, torch.contiguous_format)
        strides = torch.empty(logical, device="meta", memory_format=memory).stride()
        # With strides it takes 0.7 µs, and with a size and a format 1.1 µs.
        return partial(torch.empty_strided, logical, strides, dtype=aten.torch_dtype(tensor.dtype))

    def _function(self, request: KernelRequest) -> Callable[..., None]:
        if request not in self._functions:
            loaded = load_kernel(self._build(request), FUNCTION)
            self._functions[request] = self._with_constants(loaded, request.plan)
        return self._functions[request]

    def _with_constants(self, function: Callable[..., Any], plan: KernelPlan) -> Callable[..., None]:
        """The loaded function as one of the inputs that vary and of the results."""
        inputs = self.request.program.inputs
        positions = {inputs[n].name: k for k, n in enumerate(self._moving)}
        values = {inputs[n].name: value.contiguous() for n, value in self._constants.items()}
        packs = [packed(p, values[p.read.tensor.name]) for p in plan.packs]
        if plan.products is not None:
            packs += [split(p, values[p.side.read.tensor.name]) for p in plan.products.constants]
        self.packed_bytes += sum(p.numel() * p.element_size() for p in packs)
        reads: list[int | torch.Tensor] = [positions.get(t.name, values.get(t.name, -1)) for t in plan.reads]
        outs = range(len(self._moving), len(self._moving) + len(plan.outs))
        dtypes = [inputs[n].dtype for n in self._moving] + [t.dtype for t in plan.outs]
        return arranged(function, [*reads, *packs, *outs], dtypes)


def _on_copies(function: Callable[..., None], formats: Sequence[torch.memory_format], *tensors: torch.Tensor) -> None:
    count = len(formats)
    dense = (t.contiguous(memory_format=f) for t, f in zip(tensors, formats, strict=False))
    function(*dense, *tensors[count:])
