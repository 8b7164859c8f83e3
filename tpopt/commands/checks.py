"""What ``tpopt doctor`` looks at. Each check takes what it judges as arguments and returns rows."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tpopt.report.environment import processor, usable_cores, version

SHOWN_ALONE: Final = ("torch", "apache-tvm", "apache-tvm-ffi", "ortools")
"""Requirements with a row each; the others share one."""

COMPILERS: Final = ("c++", "g++", "clang++", "cc", "gcc", "clang")
_ALLOCATORS: Final = ("jemalloc", "tcmalloc", "mimalloc")
_GIB: Final = 2**30


@dataclass(frozen=True)
class Check:
    """One row: what was looked at, what was found, and what to do when the status is ``warn``."""

    name: str
    value: str
    status: Literal["ok", "warn"] = "ok"
    advice: str = ""


def check(name: str, value: str, *, warn: bool, advice: str) -> Check:
    """Returns a row whose advice is given only when it is needed."""
    return Check(name, value, "warn" if warn else "ok", advice if warn else "")


def requirements(lines: Sequence[str]) -> list[Check]:
    """Compares what is installed with what tpopt requires, as its metadata spells it."""
    rows = [requirement(line) for line in lines if "extra ==" not in line]
    alone = [row for row in rows if row.name in SHOWN_ALONE]
    others = [row for row in rows if row.name not in SHOWN_ALONE]
    wrong = [row for row in others if row.status == "warn"]
    return [*alone, *wrong, Check("other libraries", f"{len(others) - len(wrong)} as required")]


def requirement(line: str) -> Check:
    """Compares one installed distribution with a requirement such as ``torch<2.14,>=2.11``."""
    from packaging.requirements import Requirement

    wanted = Requirement(line)
    found = version(wanted.name)
    fits = found != "missing" and wanted.specifier.contains(found, prereleases=True)
    value = f"{found} (requires {wanted.specifier})" if wanted.specifier else found
    return check(wanted.name, value, warn=not fits, advice=f"pip install '{wanted.name}{wanted.specifier}'")


def own_requirements() -> list[str]:
    """Returns the requirements of the installed tpopt."""
    try:
        return importlib.metadata.requires("tpopt") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def python() -> Check:
    """Names the interpreter."""
    return Check("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})")


def cpu() -> Check:
    """Names the processor and the instruction sets that matter."""
    name, isa = processor()
    old = platform.machine() in ("x86_64", "AMD64") and "avx2" not in isa
    return check(
        "processor", f"{name}: {' '.join(isa) or 'no instruction set known'}", warn=old,
        advice="library kernels are slow without AVX2; use a processor, or a virtual machine type, that has it",
    )  # fmt: skip


def cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> Check:
    """Counts the cores of this process, and compares them with the time that a container grants."""
    usable, quota = usable_cores(), _quota(cgroup)
    value = f"{usable} of {os.cpu_count()}" + (f", time for {quota:g}" if quota else "")
    short = quota is not None and quota < usable
    threads = max(1, int(quota or 1))
    return check("cores", value, warn=short, advice=f"threads wait for each other: set OMP_NUM_THREADS={threads}")


def _quota(cgroup: Path) -> float | None:
    fields = cgroup.read_text(encoding="ascii").split() if cgroup.is_file() else []
    return int(fields[0]) / int(fields[1]) if len(fields) == 2 and fields[0].isdigit() else None


def load(one_minute: float, cores: int) -> Check:
    """Warns when the machine is busy with something else."""
    advice = "other programs are running, so measured times will vary; wait, or use --choice model"
    return check("load", f"{one_minute:.1f} on {cores} cores", warn=one_minute > cores, advice=advice)


def governor(file: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) -> Check:
    """Names the frequency governor."""
    name = file.read_text(encoding="ascii").strip() if file.is_file() else "not visible"
    advice = "the clock follows the load, so measured times vary; cpupower frequency-set --governor performance"
    return check("governor", name, warn=name == "powersave", advice=advice)


def openmp(environ: Mapping[str, str], cores: int) -> Check:
    """Shows the settings of OpenMP."""
    given = [f"{n}={v}" for n, v in environ.items() if n.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))]
    threads = environ.get("OMP_NUM_THREADS", "")
    many = threads.isdigit() and int(threads) > cores
    advice = f"more threads than cores: unset OMP_NUM_THREADS, or set it to at most {cores}"
    return check("openmp settings", " ".join(sorted(given)) or "defaults", warn=many, advice=advice)


def openmp_runtimes(maps: str) -> Check:
    """Counts the OpenMP runtimes in this process (``maps`` is the text of /proc/self/maps, after importing torch)."""
    found = re.findall(r"(/\S*/(?:libgomp|libiomp5|libomp)[^/\s]*\.so[^/\s]*)$", maps, re.MULTILINE)
    names = sorted({Path(path).name for path in found})
    advice = "two pools of threads get in each other's way; see which package brings the second, and remove it"
    several = len(dict.fromkeys(found)) > 1
    return check("openmp runtime", ", ".join(names) or "none found", warn=several, advice=advice)


def allocator(maps: str) -> Check:
    """Names the memory allocator of this process (``maps`` is the text of /proc/self/maps)."""
    preloaded = next((name for name in _ALLOCATORS if f"lib{name}" in maps), None)
    return Check("allocator", preloaded or " ".join(platform.libc_ver()).strip() or "unknown")


def compiler(environ: Mapping[str, str]) -> Check:
    """Finds a C or C++ compiler."""
    asked = [environ[name] for name in ("CXX", "CC") if environ.get(name)]
    paths = (shutil.which(name) for name in (*asked, *COMPILERS))
    found = next((path for path in paths if path), None)
    advice = "install gcc or clang; without it generated kernels cannot share torch's threads"
    return check("compiler", found or "none", warn=found is None, advice=advice)


def cache(folder: Path) -> Check:
    """Checks that the folder of the cache can be written and has room."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        advice = "it cannot be written, so nothing is remembered: set XDG_CACHE_HOME to a folder that can"
        return Check("cache", str(folder), "warn", advice)
    free = shutil.disk_usage(there).free
    advice = "less than 1 GiB is free: make room, or set XDG_CACHE_HOME to another disk"
    return check("cache", f"{folder} ({free / _GIB:.1f} GiB free)", warn=free < _GIB, advice=advice)


def threads(count: int, cores: int) -> Check:
    """Compares torch's threads with the cores."""
    advice = f"more threads than cores: torch.set_num_threads({cores}), or OMP_NUM_THREADS={cores}"
    return check("torch threads", str(count), warn=count > cores, advice=advice)


def gpu(names: Sequence[str], *, driver: bool) -> Check:
    """Names the GPUs that torch can use; ``driver`` tells whether the machine has one."""
    advice = "the machine has a GPU, but this torch cannot use it: install a torch built for CUDA"
    return check("gpu", ", ".join(names) or "none", warn=driver and not names, advice=advice)


def cuda_compiler(found: str | None, *, needed: bool) -> Check:
    """Names the CUDA compiler, which only a machine with a GPU needs."""
    advice = "pip install 'tpopt[cuda]', or the CUDA toolkit, to generate kernels for the GPU"
    return check(
        "cuda compiler",
        found or ("none" if needed else "none (not needed: no GPU)"),
        warn=needed and not found,
        advice=advice,
    )
