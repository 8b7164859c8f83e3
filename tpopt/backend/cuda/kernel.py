"""A generated kernel for a GPU as a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from tpopt.backend.build.pool import build_pool
from tpopt.backend.cuda.carried import carried
from tpopt.backend.cuda.driver import launcher, obstacle, system_driver
from tpopt.backend.cuda.request import CudaRequest
from tpopt.backend.generated.physical import LOGICAL, MEMORY, in_order
from tpopt.backend.generated.sizes import shape
from tpopt.errors import KernelBuildFailed
from tpopt.ir import Tensor, aten

Launch: TypeAlias = Callable[[Sequence[int]], None]
Load: TypeAlias = Callable[[Path, int, int, torch.device], Launch]
"""From a cubin, blocks, threads and a device to a function of addresses."""


def _built(request: CudaRequest) -> Path:
    return carried(request) or build_pool().submit(request.build()).result().path


def _loaded(path: Path, blocks: int, threads: int, device: torch.device) -> Launch:
    driver = system_driver()
    if driver is None:
        raise KernelBuildFailed(str(obstacle()))
    return launcher(driver, path, blocks, threads, device)


class CudaKernel:
    """The machine code of one request, and of the same algebra for inputs laid out in other ways.

    ``constants`` has the value of each input that never changes by its position. ``build`` and ``load`` give the file
    of its machine code and its function. Calls may come from several threads.
    """

    def __init__(
        self,
        request: CudaRequest,
        constants: Mapping[int, torch.Tensor],
        build: Callable[[CudaRequest], Path] = _built,
        load: Load = _loaded,
    ) -> None:
        self.request = request
        self._build, self._load = build, load
        self._constants = dict(constants)
        self._moving = [n for n in range(len(request.program.inputs)) if n not in self._constants]
        self._functions: dict[tuple[CudaRequest, torch.device], Callable[..., None]] = {}
        self._formats = dict.fromkeys(request.channels_last, torch.channels_last)
        self._device = next((c.device for c in self._constants.values()), None)
        first = len(request.program.inputs)
        outputs = enumerate(request.program.outputs, first)
        self._fresh: list[Callable[[], torch.Tensor]] = [partial(self._allocate, n, t) for n, t in outputs]

    def fresh(self) -> list[Callable[[], torch.Tensor]]:
        """For each result a function that allocates a tensor for it."""
        return self._fresh

    def prepare(self) -> None:
        """Builds it for dense inputs. Raises :class:`KernelBuildFailed`."""
        self._build(self.request)

    def at(self, args: Sequence[torch.Tensor]) -> Callable[..., None]:
        """The function for inputs with the strides of these, on their device; where none is built, it copies them."""
        strides = {
            n: in_order(a.stride(), MEMORY if n in self._formats else range(a.dim())) for n, a in self._odd(args)
        }
        device = args[0].device if args else self._where()
        request = self.request.strided(strides)
        self._device = device
        try:
            return self._function(request, device)
        except KernelBuildFailed:
            if not strides:
                raise
        return partial(self._on_copies, self._function(self.request, device))

    def __call__(self, *args: torch.Tensor) -> Any:
        """Runs it on inputs of any strides; the results are new tensors."""
        function = self.at(args)
        outs = [allocate() for allocate in self._fresh]
        function(*args, *outs)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _function(self, request: CudaRequest, device: torch.device) -> Callable[..., None]:
        if (request, device) not in self._functions:
            plan = request.plan
            launch = self._load(self._build(request), plan.blocks, plan.threads, device)
            self._functions[request, device] = self._called(request, launch, device)
        return self._functions[request, device]

    def _on_copies(self, function: Callable[..., None], *tensors: torch.Tensor) -> None:
        """For strides that no kernel could be built for."""
        formats = [self._formats.get(n, torch.contiguous_format) for n in self._moving]
        dense = (t.contiguous(memory_format=f) for t, f in zip(tensors, formats, strict=False))
        function(*dense, *tensors[len(formats) :])

    def _odd(self, args: Sequence[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
        """Inputs that are not dense in their layouts, by position."""
        formats = [self._formats.get(n, torch.contiguous_format) for n in self._moving]
        triples = zip(self._moving, args, formats, strict=True)
        return [(n, a) for n, a, f in triples if not a.is_contiguous(memory_format=f)]

    def _called(self, request: CudaRequest, launch: Launch, device: torch.device) -> Callable[..., None]:
        """The loaded function as one of the inputs that vary and of the results."""
        inputs, plan = request.program.inputs, request.plan
        place = {inputs[n].name: k for k, n in enumerate(self._moving)}
        fixed = {inputs[n].name: v.to(device).contiguous() for n, v in self._constants.items()}
        slots: list[int | torch.Tensor] = [place.get(t.name, fixed.get(t.name, -1)) for t in plan.reads]
        slots += range(len(self._moving), len(self._moving) + len(plan.outs))

        def call(*tensors: torch.Tensor) -> None:
            launch([s.data_ptr() if isinstance(s, torch.Tensor) else tensors[s].data_ptr() for s in slots])

        return call

    def _allocate(self, position: int, tensor: Tensor) -> torch.Tensor:
        """Memory for an output; ``position`` counts inputs first."""
        dtype, device = aten.torch_dtype(tensor.dtype), self._where()
        if position not in self._formats:
            return torch.empty(shape(tensor), dtype=dtype, device=device)
        logical = in_order(shape(tensor), LOGICAL)
        return torch.empty(logical, dtype=dtype, device=device, memory_format=torch.channels_last)

    def _where(self) -> torch.device:
        """The device that it ran on last, or that its constants are on."""
        return self._device if self._device is not None else torch.device("cuda", torch.cuda.current_device())
