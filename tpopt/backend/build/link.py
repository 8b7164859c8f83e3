"""From an object file to a shared object, with the C compiler of the system."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tpopt.errors import KernelBuildFailed

COMPILERS: Final = ("cc", "gcc", "clang")
NO_COMPILER: Final = "no C compiler (" + ", ".join(COMPILERS) + ", or what CC names) is on PATH: install gcc or clang"
OPTIONS: Final = ("-shared", "-Wl,-z,now") if sys.platform == "linux" else ("-shared",)
"""A function that is missing is then an error when the kernel is loaded, not the end of the process that calls it."""
BARE: Final = ("-nostdlib", "-lgcc")
"""A kernel needs neither start files nor libraries: a process with torch has libc and libm in its global scope, and
libgcc's helpers are static. Measured for one kernel: 4.7 ms with these, 10.3 ms with what cc adds by itself."""


@cache
def c_compiler() -> tuple[str, ...] | None:
    """The command of the C compiler, which ``CC`` may name, with arguments; None where there is none."""
    for words in (shlex.split(os.environ.get("CC", "")), *([name] for name in COMPILERS)):
        found = shutil.which(words[0]) if words else None
        if found:
            return (found, *words[1:])
    return None


def has_linker() -> bool:
    """Whether :func:`link_shared` has something to link with."""
    return c_compiler() is not None


def link_shared(object_path: Path, out: Path) -> None:
    """Links an object file as a shared object. Raises :class:`KernelBuildFailed` with what the linker said."""
    compiler = c_compiler()
    if compiler is None:
        raise KernelBuildFailed(f"{object_path.name} was not linked: {NO_COMPILER}")
    options, libraries = BARE[:1], BARE[1:]
    if run((*compiler, *OPTIONS, *options, "-o", str(out), str(object_path), *libraries)) is None:
        return
    said = run((*compiler, *OPTIONS, "-o", str(out), str(object_path)))  # where libgcc goes by another name
    if said is not None:
        raise KernelBuildFailed(f"{object_path.name} was not linked by {compiler[0]}: {said}")


def run(command: Sequence[str]) -> str | None:
    """Runs a compiler; returns None where it succeeded, else what it said."""
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that the user's PATH or CC names
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stdout.decode(errors="replace").strip() or f"exit {done.returncode}"
