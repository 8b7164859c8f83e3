"""Facts about the machine and the process, from the standard library alone."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tpopt.report.facts import EnvironmentRow, SettingRow

DECIDE_KERNELS: Final = ("torch", "apache-tvm", "apache-tvm-ffi", "ortools", "numpy")
"""Distributions whose version decides which kernels exist or which of them is chosen."""

CHANGE_SPEED: Final = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "OMP_DYNAMIC", "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT", "KMP_AFFINITY", "KMP_BLOCKTIME", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "TVM_NUM_THREADS",
    "TVM_THREAD_POOL_SPIN_COUNT", "LD_PRELOAD", "MALLOC_CONF", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_",
    "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
"""Variables of the environment that change how fast kernels run."""

ISA: Final = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""Instruction sets that decide about kernels, by their names in /proc/cpuinfo."""

_CPUINFO: Final = Path("/proc/cpuinfo")


def record_environment(
    *, threads: int, device: str = "cpu", options: Mapping[str, object] | None = None
) -> EnvironmentRow:
    """Records this machine and process; what torch alone knows is passed in.

    Args:
        threads: threads that kernels are compiled for.
        device: ``cpu``, or the name of the accelerator.
        options: options of the compilation, by name.
    """
    cpu, isa = processor()
    return EnvironmentRow(
        tpopt=version("tpopt"),
        python=platform.python_version(),
        packages=tuple(SettingRow(name=name, value=version(name)) for name in DECIDE_KERNELS),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu,
        isa=isa,
        cores=usable_cores(),
        threads=threads,
        device=device,
        settings=tuple(SettingRow(name=n, value=os.environ[n]) for n in CHANGE_SPEED if n in os.environ),
        options=tuple(SettingRow(name=n, value=str(v)) for n, v in (options or {}).items()),
    )


def version(distribution: str) -> str:
    """Returns the installed version of a distribution, or ``missing``."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def usable_cores() -> int:
    """Returns how many cores this process may use, which in a container is often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(cpuinfo: Path = _CPUINFO) -> tuple[str, tuple[str, ...]]:
    """Returns the model name of the processor and those of :data:`ISA` that it has."""
    if not cpuinfo.exists():
        return platform.processor() or platform.machine(), ()
    pairs = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines())
    fields: dict[str, str] = {}
    for key, _, value in pairs:
        fields.setdefault(key.strip(), value.strip())
    flags = frozenset(f"{fields.get('flags', '')} {fields.get('Features', '')}".split())
    return fields.get("model name", platform.machine()), tuple(name for name in ISA if name in flags)
