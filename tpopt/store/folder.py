"""The cache of this user: one folder, with a room for each kind of entry; or one that ends with the process.

``TPOPT_CACHE_DIR`` names another folder. Everything in it can be made again, so it may be removed at any time.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import platformdirs

KERNELS: Final = "kernels-v1"
NATIVE: Final = "native-v1"
ADMITTED: Final = "admitted-v1"
CURVATURE: Final = "curvature-v1"
ROOMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        KERNELS: "generated kernels, by content; the least recently used go beyond 1 GiB",
        NATIVE: "our own C files, compiled: the launcher of kernels, the searches for schedules and addresses",
        ADMITTED: "saved models that were checked before, by content",
        CURVATURE: "sensitivities of losses, by weights, data and seed; the oldest go beyond 1,000",
    }
)
"""The folders under the cache, and what they hold. Measurement records are a file beside them."""
VARIABLE: Final = "TPOPT_CACHE_DIR"


def cache_root() -> Path:
    """The folder of this user's cache, whether it exists or not."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_path("tpopt"))


def cache_folder(name: str) -> Path:
    """A folder under the user's cache that is this user's alone and can be written, else a temporary one."""
    folder = cache_root() / name
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
