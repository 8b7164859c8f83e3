"""Our own C files as shared objects, compiled once with the C compiler of the system and kept in the cache."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from tpopt.backend.build.cache import kernel_digest
from tpopt.backend.build.link import NO_COMPILER, c_compiler, run
from tpopt.backend.native import elf
from tpopt.errors import KernelBuildFailed
from tpopt.store.folder import NATIVE, cache_folder


def compiled(source: Path, flags: Sequence[str], libraries: Sequence[str]) -> Path:
    """The shared object of a C file, compiled where the cache has none that is whole.

    Raises :class:`KernelBuildFailed` where there is no compiler, or with what it said.
    """
    key = kernel_digest(source.read_bytes(), *flags, *libraries, platform.machine(), *platform.libc_ver())
    path = cache_folder(NATIVE) / f"{source.stem}-{key}.so"
    if elf.defect(path) is None:
        return path
    compiler = c_compiler()
    if compiler is None:
        raise KernelBuildFailed(NO_COMPILER)
    try:
        with FileLock(f"{path}.lock", timeout=60):
            if elf.defect(path) is not None:
                _compile((*compiler, *flags), source, libraries, path)
    except OSError as error:  # a lock that nobody gives back is one, too
        raise KernelBuildFailed(f"the {source.stem} was not compiled: {error}") from error
    return path


def _compile(command: Sequence[str], source: Path, libraries: Sequence[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        said = run((*command, "-o", str(made), str(source), *libraries))
        if said is not None:
            raise KernelBuildFailed(f"{command[0]} does not compile the {source.stem}: {said}")
        made.replace(path)
