"""Measurement records: what a kernel cost on this machine, in a JSON file that several processes may share."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from tpopt.store.folder import cache_root
from tpopt.store.whole import is_special

VERSION = 1


@dataclass(frozen=True)
class Record:
    """Microseconds of one call: median and interval over ``rounds`` interleaved rounds."""

    us: float
    low: float
    high: float
    rounds: int

    def __post_init__(self) -> None:
        """Raises ValueError or TypeError for what no measurement yields."""
        if not all(math.isfinite(n) and n >= 0 for n in (self.us, self.low, self.high, self.rounds)):
            raise ValueError(f"{self}: every figure is finite and at least 0")


class Records:
    """Records of one machine by key. Reading a damaged or foreign file counts as empty; writing is atomic and merges.

    ``path`` None means the file in this user's cache directory, ``shared`` by all compilations. A device, such as
    ``/dev/null``, is left as it is.
    """

    def __init__(self, path: str | Path | None, fingerprint: str) -> None:
        self.path = Path(path) if path is not None else default_path()
        self.shared = path is None
        self.fingerprint = fingerprint
        self._known = _load(self.path).get(fingerprint, {})
        self._fresh: dict[str, Record] = {}

    def get(self, key: str) -> Record | None:
        """The record of a key, if there is one."""
        return self._fresh.get(key) or self._known.get(key)

    def put(self, key: str, record: Record) -> None:
        """Remembers a record; :meth:`save` writes it."""
        self._fresh[key] = record

    def save(self) -> None:
        """Adds what is new to the file. A directory that cannot be written loses nothing but the records."""
        if not self._fresh or is_special(self.path):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(str(self.path) + ".lock", timeout=30):
                everything = _load(self.path)
                everything.setdefault(self.fingerprint, {}).update(self._fresh)
                _write(self.path, everything)
        except OSError:
            return
        self._known.update(self._fresh)
        self._fresh = {}


def default_path() -> Path:
    """The file that compilations of this user share."""
    return cache_root() / f"records-v{VERSION}.json"


def fingerprint(device: str, threads: int, versions: Mapping[str, str]) -> str:
    """What a time depends on besides the kernel: CPU, device, threads, library versions."""
    parts = [
        platform.machine(),
        cpu_model(),
        device,
        f"threads={threads}",
        *(f"{k}={v}" for k, v in sorted(versions.items())),
    ]
    return "; ".join(parts)


def cpu_model() -> str:
    """The processor's name, family and model."""
    found = _cpuinfo()
    if not found:
        return platform.processor() or "unknown"
    return f"{found.get('model name', 'unknown')} family {found.get('cpu family', '?')} model {found.get('model', '?')}"


def cpu_flags() -> frozenset[str]:
    """What the processor can do, under Linux's names; empty where that is not known."""
    return frozenset(_cpuinfo().get("flags", "").split())


def _cpuinfo() -> dict[str, str]:
    """What the system says of the first core."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in reversed(lines)) if v}


def _load(path: Path) -> dict[str, dict[str, Record]]:
    if is_special(path):
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("version") != VERSION:
            return {}
        return {
            machine: {key: Record(**fields) for key, fields in rows.items()}
            for machine, rows in data["machines"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _write(path: Path, everything: Mapping[str, Mapping[str, Record]]) -> None:
    machines = {m: {k: asdict(r) for k, r in sorted(rows.items())} for m, rows in sorted(everything.items())}
    text = json.dumps({"version": VERSION, "machines": machines}, indent=1)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
