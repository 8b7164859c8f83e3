"""Built kernels by content: ``<key>.so`` beside ``<key>.meta``, shared by the processes of a user."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from filelock import FileLock

from tpopt.backend.build.request import Built

FORMAT: Final = b"tpopt kernel 1\n"
DIGEST_BYTES: Final = 32
LEFT_OVER: Final = ".building-"
"""How the name of a file begins that a worker is writing; such a file is older than an hour only if its worker died."""
LEFT_OVER_SECONDS: Final = 3600
FILL: Final = 0.9
"""Part of the limit that a clean-up leaves, so that not every file after it needs another one."""


def kernel_digest(*parts: str | bytes) -> str:
    """A key of 40 hexadecimal digits; where one part ends and the next begins counts."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:40]


class KernelCache:
    """The kernels in a folder, up to ``max_bytes`` together; those that nobody asked for the longest go first.

    An entry never changes once it is there, and what cannot be read counts as absent. Any number of processes may use
    the same folder.
    """

    def __init__(self, directory: str | Path, max_bytes: int = 1 << 30) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self._bytes: int | None = None
        self._lock_path = self.directory / ".lock"

    def get(self, key: str) -> Built | None:
        """The entry of a key, whole and as it was put, or None."""
        code_path, meta_path = self._paths(key)
        try:
            meta = meta_path.read_bytes()
            code = code_path.read_bytes()
            head = len(FORMAT) + DIGEST_BYTES
            if len(meta) < head or meta[:head] != FORMAT + _digest(code, meta[head:]):
                return None
            os.utime(meta_path)
        except OSError:
            return None
        return Built(code_path, meta[head:], 0.0, cached=True)

    def put(self, key: str, written: Path, metadata: bytes, seconds: float) -> Built:
        """Takes the file ``written``, which lies in this folder, as the entry of a key, unless there is one already.

        Raises OSError where the folder cannot be written.
        """
        code_path, meta_path = self._paths(key)
        code = written.read_bytes()
        with FileLock(str(self._lock_path), timeout=30):
            present = self.get(key)
            if present is not None:
                written.unlink()
                return Built(present.path, present.metadata, seconds, cached=False)
            written.replace(code_path)
            self._write(meta_path, FORMAT + _digest(code, metadata) + metadata)
            self._account(len(code) + len(metadata), keep=key)
        return Built(code_path, metadata, seconds, cached=False)

    def scratch(self, key: str) -> Path:
        """A new name in this folder for a worker to write to."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=f"{LEFT_OVER}{key}-", suffix=".so", dir=self.directory)
        os.close(handle)
        return Path(name)

    def clean(self, keep: str | None = None) -> None:
        """Removes what workers that died left over, and the oldest entries beyond the limit, but not ``keep``."""
        entries, total = [], 0
        for path in sorted(self.directory.iterdir()):
            with suppress(OSError):
                facts = path.stat()
                if path.name.startswith(LEFT_OVER):
                    if facts.st_mtime < time.time() - LEFT_OVER_SECONDS:
                        path.unlink()
                    continue
                total += facts.st_size
                if path.suffix == ".meta" and path.stem != keep:
                    entries.append((facts.st_mtime, path))
                elif path.suffix == ".so" and not path.with_suffix(".meta").exists():
                    entries.append((facts.st_mtime - LEFT_OVER_SECONDS, path.with_suffix(".meta")))
        if total > self.max_bytes:
            for _, meta_path in sorted(entries):
                total -= _remove(meta_path)
                if total <= FILL * self.max_bytes:
                    break
        self._bytes = total

    def _account(self, added: int, keep: str) -> None:
        """Reads the folder only at first and when the limit is near: that takes a moment for each thousand of files."""
        if self._bytes is None or self._bytes + added > self.max_bytes:
            self.clean(keep)
        else:
            self._bytes += added

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.directory / f"{key}.so", self.directory / f"{key}.meta"

    def _write(self, path: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(prefix=LEFT_OVER, dir=self.directory)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)


def _digest(code: bytes, metadata: bytes) -> bytes:
    return sha256(sha256(code).digest() + metadata).digest()


def _remove(meta_path: Path) -> int:
    """Removes an entry, the part that makes it one first; returns its bytes."""
    freed = 0
    for path in (meta_path, meta_path.with_suffix(".so")):
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed
