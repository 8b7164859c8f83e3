"""Saved models that this user wrote, or whose every proof was made before: they need no second one.

An entry is an empty file named by the SHA-256 of the manifest, which has the SHA-256 of every member that decides what
is computed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from typing import Final

from tpopt import __version__
from tpopt.store.folder import ADMITTED, cache_folder

MOST: Final = 10_000
"""Entries that are kept; the oldest go first."""


def content_key(manifest: bytes | bytearray) -> str:
    """The name of a model's contents for this version of tpopt, whose checks they passed."""
    return sha256(__version__.encode() + b"\n" + manifest).hexdigest()


def is_known(key: str) -> bool:
    """Whether the contents passed before."""
    path = cache_folder(ADMITTED) / key
    with suppress(OSError):
        os.utime(path)
        return True
    return False


def remember(key: str) -> None:
    """Notes that the contents passed; where nothing can be written, they are checked again next time."""
    with suppress(OSError):
        folder = cache_folder(ADMITTED)
        (folder / key).touch(mode=0o600)
        entries = list(folder.iterdir())
        if len(entries) > MOST:
            for old in sorted(entries, key=lambda p: p.stat().st_mtime)[: len(entries) - MOST]:
                old.unlink(missing_ok=True)
