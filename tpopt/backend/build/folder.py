"""Where built files are kept: a folder of this user's cache, or one that ends with the process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import platformdirs


def cache_folder(name: str) -> Path:
    """A folder under the user's cache that is this user's alone and can be written, else a temporary one."""
    folder = Path(platformdirs.user_cache_path("tpopt")) / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK | os.X_OK) and _own(folder):
            return folder
    except OSError:
        pass
    folder = _temporary() / name
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def _own(folder: Path) -> bool:
    """Code is loaded from it: nobody else may put files there."""
    facts = folder.stat()
    return not hasattr(os, "getuid") or (facts.st_uid == os.getuid() and not facts.st_mode & 0o022)


@cache
def _temporary() -> Path:
    folder, owner = Path(tempfile.mkdtemp(prefix="tpopt-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked child ends too, and the folder is not its own
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
