"""The processes that build, seen from the user's process: one zygote, and the workers that it forks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tpopt.backend.build.worker import Answer
from tpopt.errors import KernelBuildFailed

START_SECONDS: Final = 120.0
"""For the zygote's imports: TVM takes 2 to 4 seconds here, and the slowest disks should be able to read it."""
ANSWER_SECONDS: Final = 10.0
"""For a fork (measured: 5 ms) or the end of a worker (at most half a second), on a machine that is swamped."""
ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
"""Pools that libraries would start in the zygote when they are imported; what forks should have one thread."""


PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tpopt.backend.build.zygote import main; main(**json.loads(sys.argv[2]))"
)
"""Modules are found where this process finds them, but not before the interpreter has started with its own."""


class ZygoteDied(KernelBuildFailed):
    """The process that forks workers cannot be started, or is gone."""


class Zygote:
    """Starts in the background; whoever needs a worker waits for it."""

    def __init__(self, modules: Sequence[str], memory_bytes: int, *, quiet: bool) -> None:
        self._modules = list(modules)
        self._settings = {"modules": self._modules, "memory_bytes": memory_bytes, "parent": os.getpid()}
        self._quiet = quiet
        self._control, self._theirs = socket.socketpair()
        self._control.settimeout(START_SECONDS)
        self._asking = threading.Lock()
        self._ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._failure = ""
        self._launched, self._ended = threading.Event(), threading.Event()
        # Linux ends the zygote with the thread that started it: this one lives as long as the zygote should.
        threading.Thread(target=self._keep, name="tpopt-zygote", daemon=True).start()

    def wait(self) -> None:
        """Returns when its imports are done. Raises :class:`ZygoteDied`."""
        with self._talking():
            pass

    def fork(self) -> Worker:
        """A new worker. Raises :class:`ZygoteDied`, or its base where the system has no process left."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = self._ask(b"fork\n", [theirs.fileno()])
            except ZygoteDied:
                ours.close()
                raise
        if pid < 0:
            ours.close()
            raise KernelBuildFailed(
                f"no worker can be forked: {os.strerror(-pid)}; end other processes, or raise ulimit -u"
            )
        return Worker(self, pid, Connection(ours.detach()))

    def end(self, pid: int, *, kill: bool) -> str:
        """How a worker ended, in words. It may still be at it; with ``kill`` it is not waited for."""
        try:
            status = self._ask(f"{'kill' if kill else 'reap'} {pid}\n".encode(), [])
        except ZygoteDied:
            if sys.platform != "linux":  # there it died with the zygote, and the number may be another process's
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            return "ended together with the process that forks workers"
        return ending(os.waitstatus_to_exitcode(status))

    def close(self) -> None:
        """Ends the zygote and its workers, and returns when the zygote is gone."""
        self._launched.wait(ANSWER_SECONDS)
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        if self._process is not None:
            # On Linux the workers go down with it; elsewhere it first ends them, which its imports may delay.
            if sys.platform == "linux" or not self._ended.wait(1.0):
                self._process.kill()
            self._ended.wait(ANSWER_SECONDS)
        with self._asking:
            self._control.close()

    def _keep(self) -> None:
        path = [entry or str(Path.cwd()) for entry in sys.path]
        settings = json.dumps({**self._settings, "fd": self._theirs.fileno()})
        command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(path), settings]
        environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
        output = subprocess.DEVNULL if self._quiet else None
        try:
            with self._theirs:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    pass_fds=[self._theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for the user's process alone
                )
            self._launched.set()
            self._process.wait()
        except (OSError, ValueError) as error:
            self._failure = f"{sys.executable} cannot be started: {error}"
        finally:
            self._launched.set()
            self._ended.set()

    def _ask(self, line: bytes, handles: Sequence[int]) -> int:
        with self._talking():
            socket.send_fds(self._control, [line], handles)
            return int(self._line())

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Its turn for one who asks, once the imports are done. Raises :class:`ZygoteDied`, whoever finds out."""
        self._launched.wait()
        with self._asking:
            if self._failure:
                raise ZygoteDied(self._failure)
            try:
                if not self._ready:
                    self._line()
                    self._ready = True
                    self._control.settimeout(ANSWER_SECONDS)
                yield
            except OSError as error:
                self._failure = self._why(error)
                raise ZygoteDied(self._failure) from error

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = self._control.recv(64)
            if not part:
                raise ConnectionError("closed")
            line += part
        return line

    def _why(self, error: OSError) -> str:
        doing = (
            "while it forked workers" if self._ready else f"while it imported {', '.join(self._modules) or 'itself'}"
        )
        if isinstance(error, TimeoutError):
            if self._process is not None:
                self._process.kill()
            return f"the process that forks workers did not answer in time {doing}"
        self._ended.wait(1.0)
        code = self._process.poll() if self._process is not None else None
        how = "closed its socket" if code is None else ending(code)
        return f"the process that forks workers {how} {doing}"


class Worker:
    """One build worker: its process id under the zygote, and our end of its socket."""

    def __init__(self, zygote: Zygote, pid: int, channel: Connection) -> None:
        self.pid = pid
        self.served = 0
        self._zygote = zygote
        self._channel = channel

    def ask(self, entry: str, payload: bytes, out: Path, timeout_s: float) -> Answer | None:
        """The answer to a request, or None when time is up. Raises EOFError or OSError where the worker is gone."""
        self.served += 1
        self._channel.send((entry, payload, str(out)))
        if not self._channel.poll(timeout_s):
            return None
        answer: Answer = self._channel.recv()
        return answer

    def end(self, *, kill: bool) -> str:
        """Ends it and tells how it ended."""
        self._channel.close()
        return self._zygote.end(self.pid, kill=kill)


def ending(code: int) -> str:
    """An exit code in words: a negative one is a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (by the system where memory is short)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
