"""From CUDA C++ to a cubin: by nvcc, or by NVRTC, which torch's CUDA builds and the extra ``cuda`` bring along."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tpopt.backend.build.cache import kernel_digest
from tpopt.backend.build.link import run
from tpopt.errors import KernelBuildFailed

NO_COMPILER: Final = (
    "neither nvcc (on PATH, below CUDA_HOME or /usr/local/cuda) nor NVRTC was found: install the CUDA toolkit, "
    "or pip install 'tpopt[cuda]'"
)
HOMES: Final = ("CUDA_HOME", "CUDA_PATH")
FLAGS: Final = ("-O3", "--diag-suppress=177")
"""No fast mathematics: roots, quotients and denormal numbers are exact. 177: a name that nobody uses."""
OPTIONS: Final = (b"--diag-suppress=177", b"--device-as-default-execution-space")
_SAID: Final = 2000


def compile_cubin(source: str, arch: str, out: Path) -> None:
    """Compiles a source for an architecture. Raises :class:`KernelBuildFailed` with what the compiler said."""
    compiler = _compiler()
    if compiler is None:
        raise KernelBuildFailed(NO_COMPILER)
    compiler[1](source, arch, out)


def obstacle() -> str | None:
    """Why :func:`compile_cubin` cannot compile; ``None`` where it can."""
    return NO_COMPILER if _compiler() is None else None


def description() -> str | None:
    """The compiler in words; ``None`` for none."""
    compiler = _compiler()
    return None if compiler is None else compiler[0].partition(" (")[0]


@cache
def compiler_digest() -> str:
    """Of the compiler: what another one made is not taken for its own."""
    compiler = _compiler()
    return "" if compiler is None else kernel_digest(compiler[0], *FLAGS)


@cache
def _compiler() -> tuple[str, Callable[[str, str, Path], None]] | None:
    """A text that differs where results may, and the function that compiles."""
    nvcc = _nvcc()
    if nvcc is not None:
        facts = Path(nvcc).stat()
        return f"{nvcc} ({facts.st_size} bytes, {facts.st_mtime_ns})", lambda *given: _with_nvcc(nvcc, *given)
    library = _nvrtc()
    if library is not None:
        return f"nvrtc {_version(library)}", lambda *given: _with_nvrtc(library, *given)
    return None


def _nvcc() -> str | None:
    homes = [os.environ[name] for name in HOMES if os.environ.get(name)]
    places = (str(Path(home) / "bin") for home in (*homes, "/usr/local/cuda"))
    found = (shutil.which("nvcc", path=place) for place in (os.environ.get("PATH", ""), *places))
    return next((path for path in found if path is not None), None)


def _with_nvcc(nvcc: str, source: str, arch: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "kernel.cu"
        written.write_text(source)
        said = run((nvcc, "-cubin", f"-arch={arch}", *FLAGS, "-o", str(out), str(written)))
    if said is not None:
        raise KernelBuildFailed(f"nvcc does not compile a kernel for {arch}: {said[-_SAID:]}")


@cache
def _nvrtc() -> ctypes.CDLL | None:
    """NVRTC as it lies in the folders of NVIDIA's packages, or where the system finds it."""
    for path in (*_packaged(), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"):
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    return None


def _packaged() -> Iterator[Path]:
    if sys.platform != "linux":
        return
    spec = find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec is not None else ():
        found = Path(place).glob("*/lib/libnvrtc.so.*")
        yield from sorted((p for p in found if re.fullmatch(r"libnvrtc\.so\.\d+", p.name)), reverse=True)


def _version(library: ctypes.CDLL) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def _with_nvrtc(library: ctypes.CDLL, source: str, arch: str, out: Path) -> None:
    """NVRTC documentation, "Basic Usage"."""
    program = ctypes.c_void_p()
    text = ctypes.c_char_p(source.encode())
    if library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernel.cu", 0, None, None):
        raise KernelBuildFailed("NVRTC makes no program")
    try:
        options = [f"--gpu-architecture={arch}".encode(), *OPTIONS]
        options += [f"--include-path={p}".encode() for p in _headers()]
        given = (ctypes.c_char_p * len(options))(*options)
        if library.nvrtcCompileProgram(program, len(options), given):
            said = _text(library, program, "ProgramLog").decode(errors="replace")
            raise KernelBuildFailed(f"NVRTC does not compile a kernel for {arch}: {said[-_SAID:]}")
        out.write_bytes(_text(library, program, "CUBIN"))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    held = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, held)
    return held.raw


def _headers() -> list[Path]:
    """Where the headers of half-precision numbers may lie."""
    homes = [Path(os.environ[name]) / "include" for name in HOMES if os.environ.get(name)]
    packaged = [p.parent.parent / "include" for p in _packaged()]
    spec = find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec is not None else ():
        packaged += Path(place).glob("*/include")
    return [p for p in (*homes, *packaged, Path("/usr/local/cuda/include")) if p.is_dir()]
