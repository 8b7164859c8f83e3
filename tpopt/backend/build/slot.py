"""The place of one build worker: forked when there is something to do, and again when it is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tpopt.backend.build.cache import KernelCache
from tpopt.backend.build.process import Worker
from tpopt.backend.build.request import BuildRequest, Built
from tpopt.backend.build.worker import Answer
from tpopt.errors import KernelBuildFailed

ATTEMPTS: Final = 2
"""A crash is tried once more; a hang, an exception and a lack of memory would only repeat themselves."""
SERVED: Final = 200
"""Requests after which a worker is replaced, so that what a library leaks does not add up to the limit of memory."""


class Slot:
    """Builds one request after another, in workers from ``fork``."""

    def __init__(self, kernels: KernelCache, fork: Callable[[], Worker], timeout_s: float, memory_bytes: int) -> None:
        self._kernels = kernels
        self._fork = fork
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._worker: Worker | None = None

    def build(self, request: BuildRequest) -> Built:
        """Raises :class:`KernelBuildFailed` with the reason, and OSError where the cache cannot be written."""
        present = self._kernels.get(request.key)  # another process may have been faster
        if present is not None:
            return present
        crash = ""
        for _ in range(ATTEMPTS):
            out = self._kernels.scratch(request.key)
            try:
                answer = self._ask(request, out)
                if isinstance(answer, Answer):
                    self._check(request, answer)
                    return self._kernels.put(request.key, out, answer.metadata, answer.seconds)
                crash = answer
            finally:
                out.unlink(missing_ok=True)
        raise failure(request, f"its worker {crash}, {ATTEMPTS} times; please report it")

    def end(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.end(kill=True)

    def _ask(self, request: BuildRequest, out: Path) -> Answer | str:
        """The answer, or how the worker crashed. Raises :class:`KernelBuildFailed` for a hang, and without a worker."""
        try:
            worker = self._worker = self._worker or self._fork()
        except KernelBuildFailed as error:
            raise failure(request, str(error)) from error
        try:
            answer = worker.ask(request.entry, request.payload, out, self._timeout_s)
        except (EOFError, OSError):
            self._worker = None
            return worker.end(kill=False)
        if answer is None:
            self.end()
            hint = "a kernel that needs longer needs a pool with a larger timeout_s"
            raise failure(request, f"timeout, no result after {self._timeout_s:g} s; {hint}")
        if answer.kind == "memory" or worker.served >= SERVED:
            self.end()
        return answer

    def _check(self, request: BuildRequest, answer: Answer) -> None:
        if answer.kind == "ok":
            return
        if answer.kind == "memory":
            limit = f"{self._memory_bytes / (1 << 20):.0f} MiB"
            hint = "a kernel that needs more needs a pool with a larger memory_bytes"
            error = failure(request, f"out of memory, its worker has {limit}; {hint}")
        else:
            error = failure(request, answer.text)
        if answer.trace:
            error.add_note(answer.trace)
        raise error


def failure(request: BuildRequest, reason: str) -> KernelBuildFailed:
    """The error of a request."""
    return KernelBuildFailed(f"kernel {request.key[:12]} ({request.entry}) was not built: {reason}")
