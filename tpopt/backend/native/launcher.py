"""The threads of generated kernels: torch's own, or else TVM's, waiting passively.

Two pools of threads that both spin make a kernel and a torch operator in turn forty times slower than each by itself.
``launcher.c`` puts the parallel loops of kernels on the OpenMP pool that torch has loaded. It needs a C compiler once.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from tpopt.backend.native.compiled import compiled
from tpopt.errors import KernelBuildFailed

SOURCE: Final = Path(__file__).with_name("launcher.c")
FLAGS: Final = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")
LIBRARIES: Final = ("-ldl", "-pthread")
PASSIVE: Final = {"TVM_THREAD_POOL_SPIN_COUNT": "0", "TVM_BIND_THREADS": "0"}
RUNTIME_FUNCTION: Final = "runtime.config_threadpool"
"""What libtvm_runtime, and it alone, registers: it tells whether that library is loaded."""

_STARTING = threading.Lock()


@dataclass(frozen=True)
class LauncherStatus:
    """Where parallel loops run: on torch's threads (``shared``), on TVM's (``passive``), or nowhere (``none``)."""

    kind: Literal["shared", "passive", "none"]
    reason: str


def launcher_status() -> LauncherStatus:
    """Starts the launcher where that has not been done, and says how it went; never raises."""
    with _STARTING:
        started = _start()
        started.renew()
        return started.status


def ensure_launcher() -> None:
    """Makes this process able to load kernels. Raises :class:`KernelBuildFailed` where that is impossible."""
    status = launcher_status()
    if status.kind == "none":
        raise KernelBuildFailed(f"generated kernels cannot run: {status.reason}")


def last_thread_count() -> int:
    """Threads of torch that the last parallel loop of this thread might use; 0 before the first."""
    with _STARTING:
        library = _start().library
    return int(library.tpopt_launcher_last_threads()) if library is not None else 0


@dataclass
class _Started:
    """The launcher of this process; ``over_runtime`` once it has registered after libtvm_runtime."""

    status: LauncherStatus
    library: ctypes.CDLL | None = None
    over_runtime: bool = False

    def renew(self) -> None:
        """Registers again where TVM's runtime came later: who registered last is who the next kernel calls."""
        if self.library is not None and not self.over_runtime and _runtime_loaded():
            self.over_runtime = True
            self.library.tpopt_launcher_register(_ffi_path())


@cache
def _start() -> _Started:
    try:
        over_runtime = _runtime_loaded()
        library = _load()
    except KernelBuildFailed as error:
        return _Started(_start_passive(str(error)))
    except (ImportError, OSError) as error:
        return _Started(LauncherStatus("none", f"torch or tvm_ffi cannot be imported: {error}"))
    openmp = _text(library.tpopt_launcher_openmp())
    return _Started(
        LauncherStatus("shared", f"parallel loops run on torch's threads ({openmp})"), library, over_runtime
    )


def _load() -> ctypes.CDLL:
    """The compiled launcher, started. Raises :class:`KernelBuildFailed` with what stood in the way."""
    import torch

    path = compiled(SOURCE, FLAGS, LIBRARIES)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelBuildFailed(f"the launcher {path} does not load: {error}") from error
    for name in ("start", "register", "openmp"):
        getattr(library, f"tpopt_launcher_{name}").restype = ctypes.c_char_p
    torch_path = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    missing = library.tpopt_launcher_start(os.fsencode(torch_path), _ffi_path())
    if missing is not None:
        raise KernelBuildFailed(_text(missing))
    return library


def _start_passive(why: str) -> LauncherStatus:
    """Loads TVM's runtime with threads that sleep while there is nothing to do."""
    import torch

    for name, value in {**PASSIVE, "TVM_NUM_THREADS": str(torch.get_num_threads())}.items():
        os.environ.setdefault(name, value)
    found = importlib.util.find_spec("tvm")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        return LauncherStatus("none", f"{why}; and apache-tvm, whose threads would do, is not installed")
    try:
        _ffi_path()
        ctypes.CDLL(str(Path(folders[0]) / "lib" / "libtvm_runtime.so"), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return LauncherStatus("none", f"{why}; and TVM's runtime does not load: {error}")
    threads = os.environ["TVM_NUM_THREADS"]
    return LauncherStatus("passive", f"parallel loops run on {threads} threads of TVM's, beside torch's: {why}")


def _runtime_loaded() -> bool:
    return _ffi().get_global_func(RUNTIME_FUNCTION, allow_missing=True) is not None


def _ffi_path() -> bytes:
    path: str = _ffi().libinfo.find_libtvm_ffi()
    return os.fsencode(path)


def _ffi() -> Any:
    """The module tvm_ffi; importing it loads libtvm_ffi."""
    import tvm_ffi

    return tvm_ffi


def _text(said: bytes | None) -> str:
    return os.fsdecode(said) if said is not None else "unknown"
