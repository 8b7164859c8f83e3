"""The ``Executor`` of tpopt.protocols over any workers: results in the order of the items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from tpopt.errors import JobFailed
from tpopt.executors.campaign import Campaign
from tpopt.executors.jobs import Job, Limits, Outcome, Workers

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkersExecutor:
    """Runs tasks on workers, and closes them; ``device`` is where."""

    def __init__(self, workers: Workers, limits: Limits | None = None, *, device: str = "cpu") -> None:
        self._workers = workers
        self._limits = limits or Limits()
        self._device = device

    def map(
        self, task: Callable[[Item], Result], items: Iterable[Item], *, seconds: float | None = None
    ) -> Iterator[Result]:
        """``task`` of every item, in order. Asking for a result that failed raises :class:`JobFailed`.

        The next ones can still be asked for.
        """
        jobs = [Job(str(n), item, self._device) for n, item in enumerate(items)]
        limits = self._limits if seconds is None else replace(self._limits, seconds=seconds)
        return _InOrder(Campaign(self._workers, limits).run(task, jobs), len(jobs))

    def close(self) -> None:
        """Ends the workers."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _InOrder(Generic[Result]):
    def __init__(self, outcomes: Iterator[Outcome], count: int) -> None:
        self._outcomes, self._count = outcomes, count
        self._known: dict[str, Outcome] = {}
        self._next = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        if self._next == self._count:
            raise StopIteration
        key = str(self._next)
        while key not in self._known:
            outcome = next(self._outcomes)
            self._known[outcome.key] = outcome
        self._next += 1
        outcome = self._known.pop(key)
        if outcome.kind != "done":
            raise JobFailed(f"item {key}: {outcome.kind} after {outcome.attempts} attempts: {outcome.reason}")
        value: Result = outcome.value
        return value
