"""CUDA's driver, as far as a cubin needs it: load, find the kernel, launch it on torch's stream."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from tpopt.backend.generated.request import FUNCTION
from tpopt.errors import KernelBuildFailed

LIBRARY: Final = "libcuda.so.1"


class Driver:
    """The functions of a driver library. Modules are loaded once for each device, and stay.

    The context is torch's: the primary one of the device, made current before anything is loaded or launched. Source:
    CUDA Driver API, "Module Management", "Execution Control".
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._loaded: dict[tuple[Path, int], ctypes.c_void_p] = {}
        self._lock = threading.Lock()

    def function(self, path: Path, index: int) -> ctypes.c_void_p:
        """The kernel in a cubin on the current device, which is number ``index``.

        Raises :class:`KernelBuildFailed` with what the driver said.
        """
        with self._lock:
            if (path, index) not in self._loaded:
                module, function = ctypes.c_void_p(), ctypes.c_void_p()
                image = ctypes.create_string_buffer(path.read_bytes())
                self._do("cuModuleLoadData", ctypes.byref(module), image)
                self._do("cuModuleGetFunction", ctypes.byref(function), module, FUNCTION.encode())
                self._loaded[path, index] = function
            return self._loaded[path, index]

    def launch(
        self, function: ctypes.c_void_p, blocks: int, threads: int, stream: int, addresses: Sequence[int]
    ) -> None:
        """Asks for a kernel on a stream of the current context; ``addresses`` are its parameters."""
        held = (ctypes.c_void_p * len(addresses))(*addresses)
        size, start = ctypes.sizeof(ctypes.c_void_p), ctypes.addressof(held)
        parameters = (ctypes.c_void_p * len(addresses))(*(start + n * size for n in range(len(addresses))))
        grid = (ctypes.c_uint(n) for n in (blocks, 1, 1, threads, 1, 1, 0))
        self._do("cuLaunchKernel", function, *grid, ctypes.c_void_p(stream), parameters, None)

    def _do(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            said = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(said))
            reason = (said.value or b"").decode(errors="replace")
            raise KernelBuildFailed(f"{name} of CUDA's driver: {reason or 'an error without a name'} ({status})")


@cache
def system_driver() -> Driver | None:
    """The driver of this machine; None where there is none."""
    try:
        return Driver(ctypes.CDLL(LIBRARY))
    except OSError:
        return None


def obstacle() -> str | None:
    """Why no kernel can run on a GPU of this machine; ``None`` where they can."""
    return f"the driver of CUDA ({LIBRARY}) is not on this machine" if system_driver() is None else None


def launcher(
    driver: Driver, path: Path, blocks: int, threads: int, device: torch.device
) -> Callable[[Sequence[int]], None]:
    """The kernel of a cubin as a function of addresses, which runs it on torch's current stream of a device."""
    index = torch.cuda.current_device() if device == torch.device("cuda") else device.index
    with torch.cuda.device(index):
        torch.cuda.current_stream()  # the device has its context from now on
        function = driver.function(path, index)

    def call(addresses: Sequence[int]) -> None:
        with torch.cuda.device(index):
            driver.launch(function, blocks, threads, torch.cuda.current_stream().cuda_stream, addresses)

    return call
