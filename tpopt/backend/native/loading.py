"""From the file of a kernel to a function of tensors, without TVM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tpopt.backend.native import elf
from tpopt.backend.native.launcher import ensure_launcher
from tpopt.errors import KernelBuildFailed


def load_kernel(path: Path, name: str) -> Callable[..., Any]:
    """The function ``name`` of a built kernel; the code stays loaded for as long as the function lives.

    It takes compact torch tensors, or what :func:`as_argument` made of them, and fills those that are results. Raises
    :class:`KernelBuildFailed` for a file that is missing, damaged or without that function.
    """
    import tvm_ffi

    wrong = elf.defect(path)
    if wrong is not None:
        raise KernelBuildFailed(f"the kernel {path} cannot be loaded: {wrong}; remove the file and compile again")
    ensure_launcher()
    try:
        module = tvm_ffi.load_module(path, keep_module_alive=False)
        function: Callable[..., Any] = module[name]
    except (AttributeError, RuntimeError, ValueError, OSError) as error:
        raise KernelBuildFailed(f"the kernel {path} has no {name!r} that can be loaded: {error}") from error
    return function


def as_argument(tensor: torch.Tensor) -> Any:
    """The same memory as an argument of a kernel that needs no conversion at the call; it keeps the memory alive.

    Measured for a call with three arguments: 0.10 µs, and 0.32 µs with torch tensors.
    """
    import tvm_ffi

    return tvm_ffi.from_dlpack(tensor)
