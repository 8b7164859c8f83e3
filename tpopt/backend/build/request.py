"""What is asked of a build worker, and what comes back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tpopt.errors import UsageError

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")


@dataclass(frozen=True)
class BuildRequest:
    """A call of ``entry``, "module:function", in a worker as ``function(payload: bytes, out: Path) -> bytes``.

    The function writes a shared object to ``out`` and returns what should be kept beside it. ``key`` names the result
    in the cache: equal keys must mean equal results. Raises UsageError for an entry or a key of another form.
    """

    entry: str
    payload: bytes
    key: str

    def __post_init__(self) -> None:
        if not _ENTRY.fullmatch(self.entry):
            raise UsageError(f"entry {self.entry!r}: expected module:function")
        if not _KEY.fullmatch(self.key):
            raise UsageError(f"key {self.key!r}: expected letters, digits, - and _, as kernel_digest() makes")


@dataclass(frozen=True)
class Built:
    """A shared object in the cache, its metadata, and the seconds it took to build (0 where it was ``cached``)."""

    path: Path
    metadata: bytes
    seconds: float
    cached: bool
