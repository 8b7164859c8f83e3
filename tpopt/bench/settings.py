"""The settings of a process that every contestant in it shares: threads and allocator."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

Allocator = Literal["retain", "stock"]

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
RETAINED_BYTES: Final = 1 << 30
"""Blocks up to this size stay with the process when they are freed."""


def apply_settings(threads: int | None, allocator: Allocator) -> dict[str, object]:
    """Sets threads and allocator of this process, and returns what then holds, for a report.

    ``"retain"`` makes glibc keep freed memory. Otherwise each call that allocates a large temporary maps and unmaps it,
    which costs page faults that depend on the neighbours' load more than on the contestant.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return {
        "threads": torch.get_num_threads(),
        "allocator": _retain_freed_memory() if allocator == "retain" else "stock",
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "opt_einsum": find_spec("opt_einsum") is not None,
    }


def _retain_freed_memory() -> str:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return "stock (this C library has no mallopt)"
    kept = mallopt(M_MMAP_THRESHOLD, RETAINED_BYTES) and mallopt(M_TRIM_THRESHOLD, RETAINED_BYTES)
    return "retain" if kept else "stock (mallopt refused)"


def environment() -> dict[str, str]:
    """Returns the machine and the versions that figures depend on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "cpu": _cpu_name(), "cores": str(_cores())}
    for package in ("tpopt", "torch", "onnxruntime", "openvino"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu_name() -> str:
    import platform

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
