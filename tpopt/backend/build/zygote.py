"""The process that imports what building needs, once, and forks a worker in milliseconds whenever it is asked to.

It is a program of its own, not a fork of the user's process, whose threads and locks it would inherit; and it has one
thread, so that its own forks are safe. It obeys lines on a socket: ``fork``, with the worker's socket attached, which
is answered by a process id or a negative error number; ``kill ID`` and ``reap ID``, answered by that worker's wait
status.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import socket
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final

from tpopt.backend.build.worker import die_with, work

GRACE_SECONDS: Final = 0.5
"""How long a worker that closed its socket may take to end, before it is killed."""
POLL_SECONDS: Final = 0.002


def main(fd: int, parent: int, modules: Sequence[str], memory_bytes: int) -> None:
    """Runs until the socket ``fd`` closes. ``parent`` is the process id of the user's process."""
    die_with(parent)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is the user's process's business, which then closes the socket
    with socket.socket(fileno=fd) as control:
        warm_up(modules)
        control.sendall(b"ready\n")
        _Zygote(control, memory_bytes).serve()


def warm_up(modules: Sequence[str]) -> None:
    """Imports modules. Where that fails, the request that needs one says so."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - whatever a module does when it is imported
            traceback.print_exc()
    gc.collect()
    gc.freeze()  # a collection in a worker would write to every object, and so copy the pages that it shares with us


class _Zygote:
    def __init__(self, control: socket.socket, memory_bytes: int) -> None:
        self._control = control
        self._memory_bytes = memory_bytes
        self._workers: set[int] = set()

    def serve(self) -> None:
        while True:
            line, handles, _, _ = socket.recv_fds(self._control, 64, 1)
            if not line:
                break
            command, _, number = line.decode().strip().partition(" ")
            answer = self._fork(handles[0]) if command == "fork" else self._end(int(number), kill=command == "kill")
            self._control.sendall(f"{answer}\n".encode())
        for pid in sorted(self._workers):
            self._end(pid, kill=True)

    def _fork(self, handle: int) -> int:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory
            os.close(handle)
            return -(error.errno or errno.EAGAIN)
        if pid:
            os.close(handle)
            self._workers.add(pid)
            return pid
        try:
            die_with(parent)
            os.setpgid(0, 0)  # so that what it starts can be killed with it
            self._control.close()
            work(Connection(handle), self._memory_bytes)
        finally:
            os._exit(0)  # neither the zygote's loop nor its exit handlers are this process's

    def _end(self, pid: int, *, kill: bool) -> int:
        """The wait status of a worker, which is killed at once, or after a grace in which it may end by itself."""
        deadline = time.monotonic() + (0.0 if kill else GRACE_SECONDS)
        while time.monotonic() < deadline:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._workers.discard(pid)
                return status
            time.sleep(POLL_SECONDS)
        for end in (os.killpg, os.kill):  # before the worker has made its group there is none
            with suppress(ProcessLookupError):
                end(pid, signal.SIGKILL)
        self._workers.discard(pid)
        return os.waitpid(pid, 0)[1]
