"""Requests for kernels, spread over build workers, with one build for each key."""

from __future__ import annotations

import atexit
import os
import queue
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Final, Self

from tpopt.backend.build.cache import KernelCache
from tpopt.backend.build.process import Worker, Zygote, ZygoteDied
from tpopt.backend.build.request import BuildRequest, Built
from tpopt.backend.build.slot import Slot, failure
from tpopt.errors import KernelBuildFailed
from tpopt.store.folder import KERNELS, cache_folder

__all__ = ["BuildPool", "BuildRequest", "Built", "build_pool"]

WARM_UP: Final = ("tpopt.backend.tvm.build",)
TIMEOUT_SECONDS: Final = 30.0
MEMORY_BYTES: Final = 2 << 30
JOIN_SECONDS: Final = 5.0
"""For threads that find their worker gone: they have nothing left to wait for but a disk."""
CLOSED: Final = "the build pool was closed"

_OPENING = threading.Lock()


@dataclass(frozen=True)
class _Job:
    request: BuildRequest
    future: Future[Built]


class BuildPool:
    """Builds kernels in ``workers`` processes (default: one a core), each with so much time and memory a request.

    ``modules`` are imported once, before the workers are forked. Nothing starts before :meth:`warm`, or the first
    request that the cache does not answer. ``quiet`` False lets the processes write to this one's output.
    """

    def __init__(
        self,
        cache: KernelCache,
        *,
        workers: int | None = None,
        modules: Sequence[str] = WARM_UP,
        timeout_s: float = TIMEOUT_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        quiet: bool = True,
    ) -> None:
        self.cache = cache
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self._count = workers or _cores()
        self._modules = tuple(modules)
        self._quiet = quiet
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._pending: dict[str, Future[Built]] = {}
        self._threads: list[threading.Thread] = []
        self._zygote: Zygote | None = None
        self._restarts = 1
        self._closed = False

    def warm(self) -> None:
        """Starts the processes, and does not wait for them."""
        with self._lock:
            if self._unusable() is None:
                with suppress(OSError, RuntimeError):  # the first request will meet the same and say so
                    self._start()

    def settle(self) -> None:
        """Returns when what :meth:`warm` started is done with its imports: nothing can be timed beside them."""
        zygote = self._zygote
        if zygote is not None and self._unusable() is None:
            with suppress(ZygoteDied):  # the first request will meet the same and say so
                zygote.wait()

    def submit(self, request: BuildRequest) -> Future[Built]:
        """The kernel, from the cache or built; the future fails with :class:`KernelBuildFailed` and nothing else.

        Whoever asks for a key that is being built gets the same future, which therefore cannot be cancelled.
        """
        future: Future[Built] = Future()
        future.set_running_or_notify_cancel()
        present = self.cache.get(request.key)
        if present is not None:
            future.set_result(present)
            return future
        with self._lock:
            unusable = self._unusable()
            if unusable is not None:
                future.set_exception(failure(request, unusable))
                return future
            if request.key in self._pending:
                return self._pending[request.key]
            try:
                self._start()
            except (OSError, RuntimeError) as error:  # no socket, or no thread, is left
                future.set_exception(failure(request, f"build workers cannot be started: {error}"))
                return future
            self._pending[request.key] = future
            self._jobs.put(_Job(request, future))
        return future

    def close(self) -> None:
        """Ends the processes; what is still to be built fails. A second time, or in a forked child, it does nothing."""
        with self._lock:
            if self._closed or os.getpid() != self._owner:
                return
            self._closed = True
            zygote = self._zygote
        for _ in self._threads:
            self._jobs.put(None)
        if zygote is not None:
            zygote.close()
        for thread in self._threads:
            if thread is not threading.current_thread():  # it may be called where a future is done
                thread.join(JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _unusable(self) -> str | None:
        if self._closed:
            return CLOSED
        if os.getpid() != self._owner:
            return "the build pool belongs to the process that this one was forked from; build_pool() makes another"
        if not (hasattr(os, "fork") and hasattr(socket, "send_fds")):
            return f"build workers need fork, which {sys.platform} does not have"
        return None if sys.executable else "this process knows no Python interpreter (sys.executable is empty)"

    def _start(self) -> None:
        if self._zygote is None:
            zygote = Zygote(self._modules, self.memory_bytes, quiet=self._quiet)
            names = [f"tpopt-build-{number}" for number in range(self._count)]
            self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]
            for thread in self._threads:
                thread.start()
            self._zygote = zygote

    def _serve(self) -> None:
        """One thread for each worker."""
        slot = Slot(self.cache, self.fork, self.timeout_s, self.memory_bytes)
        while (job := self._jobs.get()) is not None:
            done = self._done(slot, job.request)
            with self._lock:
                self._pending.pop(job.request.key, None)
            if isinstance(done, Built):
                job.future.set_result(done)
            else:
                job.future.set_exception(done)
        slot.end()

    def _done(self, slot: Slot, request: BuildRequest) -> Built | KernelBuildFailed:
        try:
            return slot.build(request)
        except KernelBuildFailed as error:
            return error
        except Exception as error:  # noqa: BLE001 - a full disk, say: the thread must go on, and the caller be told
            told = failure(request, f"{type(error).__name__}: {error}")
            told.__cause__ = error
            return told

    def fork(self) -> Worker:
        """A worker; a zygote that died is started anew, once. Raises :class:`KernelBuildFailed`."""
        while True:
            with self._lock:
                if self._closed or self._zygote is None:
                    raise KernelBuildFailed(CLOSED)
                zygote = self._zygote
            try:
                return zygote.fork()
            except ZygoteDied as error:
                self._replace(zygote, error)

    def _replace(self, zygote: Zygote, error: ZygoteDied) -> None:
        """Starts another one, unless some thread has done so; raises ``error`` where that has been done before."""
        with self._lock:
            if self._closed:
                raise KernelBuildFailed(CLOSED)
            if self._zygote is not zygote:
                return
            if not self._restarts:
                raise error
            self._restarts -= 1
            self._zygote = Zygote(self._modules, self.memory_bytes, quiet=self._quiet)
        zygote.close()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_pool() -> BuildPool:
    """The pool of this process, on the user's cache; closed when the process ends. A forked child has its own."""
    with _OPENING:
        return _opened()


@cache
def _opened() -> BuildPool:
    pool = BuildPool(KernelCache(cache_folder(KERNELS)))
    atexit.register(pool.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_opened.cache_clear)
    return pool
