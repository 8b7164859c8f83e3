"""Files that are there whole or not at all: a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tpopt.errors import UsageError


def is_special(path: Path) -> bool:
    """Whether a pipe, a device or a folder has the name. The first two are written to, and never replaced."""
    return path.exists() and not path.is_file()


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all. Raises :class:`UsageError` where it cannot be written."""
    write_filled(path, lambda file: file.write(data))


def write_filled(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """The same, by what writes to an open file."""
    temporary = None
    try:
        if is_special(path):
            with path.open("wb") as file:
                fill(file)
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in a folder with room for it") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
