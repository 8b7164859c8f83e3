"""What tests let build workers do: the payload says what, for good or ill."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def build(payload: bytes, out: Path) -> bytes:
    """Writes the payload as the result, unless it names a fault; the fault comes after the result is written."""
    out.write_bytes(b"code of " + payload)
    fault = _FAULTS.get(payload.decode().partition(":")[0])
    if fault is not None:
        fault(out)
    return b"meta of " + payload


def pid(payload: bytes, out: Path) -> bytes:
    """The worker's process id, and its parent's."""
    out.write_bytes(b"code")
    return f"{os.getpid()} {os.getppid()}".encode()


def surroundings(payload: bytes, out: Path) -> bytes:
    """What is read from stdin, and the number of threads when it was forked."""
    out.write_bytes(b"code")
    print("a worker speaks")  # noqa: T201 - it must not be heard
    return f"{sys.stdin.read()!r} {len(os.listdir('/proc/self/task'))}".encode()  # noqa: PTH208


def count(payload: bytes, out: Path) -> bytes:
    """Leaves a trace of each call in the folder that the payload names."""
    folder = Path(payload.decode())
    (folder / f"call-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(0.2)
    out.write_bytes(b"code")
    return b""


def text(payload: bytes, out: Path) -> str:
    """Returns what no entry should."""
    out.write_bytes(b"code")
    return payload.decode()


def nothing(payload: bytes, out: Path) -> bytes:
    """Writes nothing."""
    return payload


def crash_once(payload: bytes, out: Path) -> bytes:
    """Crashes where the file that the payload names is missing, and makes that file."""
    mark = Path(payload.decode())
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    out.write_bytes(b"code")
    return b"second attempt"


def _allocate(out: Path) -> None:
    held = []
    while True:
        held.append(bytearray(1 << 26))


def _raise(out: Path) -> None:
    raise ValueError("no such schedule\nin two lines")


_FAULTS = {
    "crash": lambda out: os.kill(os.getpid(), signal.SIGSEGV),
    "leave": lambda out: os._exit(7),
    "exit": lambda out: sys.exit(3),
    "hang": lambda out: time.sleep(1000),
    "allocate": _allocate,
    "raise": _raise,
}
