"""A slot: one worker process on this machine, started when it is needed and again when it is gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final

from tpopt.executors.jobs import Answer, Call

PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tpopt.executors.runner import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])"
)
GRACE_SECONDS: Final = 3.0
"""How much longer than its call a worker may be silent before it is taken for dead."""
START_SECONDS: Final = 120.0
"""Imports on a busy machine."""


class Slot:
    """Runs calls one after the other in a process of its own, which imports ``modules`` first."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = tuple(modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None

    def start(self) -> int:
        """Starts the process and waits until it has imported its modules; returns its id. Raises OSError, EOFError."""
        ours, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            paths = json.dumps(sys.path)  # what this process can import, the worker can, wherever it runs
            command = [sys.executable, "-P", "-c", PROGRAM, paths, str(fd), str(os.getpid()), *self._modules]
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, pass_fds=(fd,), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._channel = Connection(ours.detach())
        if not self._channel.poll(START_SECONDS):
            raise OSError(f"a worker did not start within {START_SECONDS:g} s")
        self._channel.recv()
        return self._process.pid

    def run(self, call: Call) -> Answer:
        """The answer of a call; ``lost`` where the worker process died under it or could not be started."""
        try:
            if self._channel is None:
                self.start()
            assert self._channel is not None, "start() opened it"
            self._channel.send(call)
            if not self._channel.poll(call.seconds + GRACE_SECONDS):
                raise EOFError("it stopped answering")
            answer = self._channel.recv()
        except (EOFError, OSError) as error:
            self.end()
            return Answer("lost", reason=f"the worker process went away: {str(error) or type(error).__name__}")
        assert isinstance(answer, Answer)
        return answer

    def kill(self) -> None:
        """Kills the process, from any thread: whoever waits for an answer is told that it was lost."""
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()

    def end(self) -> None:
        """Ends the process, and the call in it; the next call starts another."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if process is not None:
            with suppress(OSError):
                process.kill()
            process.wait()
        if channel is not None:
            channel.close()
