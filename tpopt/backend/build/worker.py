"""The inside of a build worker: limits, then one request after another until the other end of its socket closes."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal

PR_SET_PDEATHSIG: Final = 1
OOM_SCORE: Final = "500"
"""Makes the kernel of the system, when memory is short, prefer this process to the user's, whose score is 0."""


@dataclass(frozen=True)
class Answer:
    """What happened in a worker, in words with a ``trace``; or the entry's metadata, and the seconds it took."""

    kind: Literal["ok", "error", "memory"]
    text: str = ""
    trace: str = ""
    metadata: bytes = b""
    seconds: float = 0.0


def work(channel: Connection, memory_bytes: int) -> None:
    """Answers requests (entry, payload, out); ends once memory was short, because nobody knows what is left."""
    confine(memory_bytes)
    while True:
        try:
            entry, payload, out = channel.recv()
        except EOFError:
            return
        answer = perform(entry, payload, Path(out))
        channel.send(answer)
        if answer.kind == "memory":
            return


def perform(entry: str, payload: bytes, out: Path) -> Answer:
    """Calls ``entry``; whatever it raises becomes words."""
    started = time.perf_counter()
    module, _, name = entry.partition(":")
    try:
        metadata = getattr(importlib.import_module(module), name)(payload, out)
    except MemoryError as error:
        return Answer("memory", str(error), traceback.format_exc())
    except BaseException as error:  # noqa: BLE001 - the request's own, SystemExit too
        return Answer("error", f"{type(error).__name__}: {error}", traceback.format_exc())
    wrong = _wrong(metadata, out)
    if wrong:
        return Answer("error", f"{entry} {wrong}")
    return Answer("ok", metadata=metadata, seconds=time.perf_counter() - started)


def _wrong(metadata: object, out: Path) -> str | None:
    if not isinstance(metadata, bytes):
        return f"returned {type(metadata).__name__}, expected bytes"
    return None if out.is_file() and out.stat().st_size else f"wrote nothing to {out.name}"


def confine(memory_bytes: int) -> None:
    """Lets this process have ``memory_bytes`` of address space beyond what it has now, and leave no core file."""
    import resource

    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def die_with(parent: int) -> None:
    """Ends this process when its parent ends (on Linux: when the thread that started it does).

    Elsewhere the closed socket tells it, at its next request.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
