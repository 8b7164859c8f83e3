"""The process of a slot: it imports what tasks need, once, and runs each call in a fork of itself.

A call that crashes, hangs or takes too much memory so costs a fork and no more. It has one thread, so that its forks
are safe.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import signal
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import cloudpickle

from tpopt.backend.build.worker import confine, die_with
from tpopt.executors.jobs import Answer, Call


def main(fd: int, parent: int, modules: Sequence[str]) -> None:
    """Serves calls that arrive on the socket ``fd`` until it closes. ``parent`` is the process that asks."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asking process's business
    channel = Connection(fd)
    for name in modules:
        with suppress(Exception):  # a task that needs it will say so
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that it shares with us
    channel.send("ready")
    while True:
        try:
            call = channel.recv()
        except (EOFError, OSError):
            return
        channel.send(_forked(call))


def _forked(call: Call) -> Answer:
    reading, writing = os.pipe()
    started, parent = time.perf_counter(), os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.setpgid(0, 0)  # so that what it starts can be killed with it
            die_with(parent)
            _run(call, Connection(writing, readable=False))
        finally:
            os._exit(0)
    os.close(writing)
    with Connection(reading, writable=False) as channel:
        try:
            heard = channel.poll(call.seconds)
            answer = channel.recv() if heard else Answer("timeout", reason=f"it took more than {call.seconds:g} s")
        except (EOFError, OSError, pickle.UnpicklingError):
            answer = None
    _kill(pid)
    _, status = os.waitpid(pid, 0)
    if answer is None:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        answer = Answer("crash", reason=f"the process ended with {how}")
    return Answer(answer.kind, answer.value, answer.reason, time.perf_counter() - started)


def _kill(pid: int) -> None:
    """Ends the process of a call, which has answered or never will, and what it left running."""
    for end in (os.killpg, os.kill):  # before it has made its group there is none
        with suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)


def _run(call: Call, channel: Connection) -> None:
    try:
        confine(call.memory_bytes)
        task, item = pickle.loads(call.task), pickle.loads(call.item)  # noqa: S301 - the asking process made them
        answer = Answer("done", cloudpickle.dumps(task(item)))
    except MemoryError as error:
        answer = Answer("memory", reason=f"{call.memory_bytes >> 20} MiB were not enough: {error}")
    except BaseException as error:  # noqa: BLE001 - the task's own, SystemExit too
        where = traceback.extract_tb(error.__traceback__)[-1]
        answer = Answer("error", reason=f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})")
    channel.send(answer)
