"""What is asked of a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from tpopt.errors import UsageError

Kind = Literal["done", "error", "crash", "timeout", "memory", "lost"]
"""``error``: the task raised. ``lost``: the worker or its node went away, which need not be the job's fault."""
STRIKES: Final[frozenset[Kind]] = frozenset({"crash", "timeout", "memory"})
"""Ends that a job is blamed for."""


@dataclass(frozen=True)
class Job:
    """One item of work. Equal ``key`` means equal work: its result is kept once. ``device`` names where it must run."""

    key: str
    item: Any
    device: str = "cpu"


@dataclass(frozen=True)
class Limits:
    """What one job may use, and how often it is tried.

    Attributes:
        seconds: wall time of a job; the process that runs it is then killed.
        memory_bytes: address space beyond what a worker has when it starts.
        strikes: crashes, timeouts and shortages of memory after which a job is quarantined.
        losses: workers or nodes that may go away under a job before it is given up.
        grace_seconds: how long beyond ``seconds`` a worker may stay silent before it counts as lost.
    """

    seconds: float = 30.0
    memory_bytes: int = 2 << 30
    strikes: int = 2
    losses: int = 8
    grace_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Raises UsageError for a limit that is not positive."""
        for name in ("seconds", "memory_bytes", "strikes", "losses", "grace_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)!r}: expected a positive number")


@dataclass(frozen=True)
class Call:
    """A task and an item, both pickled, with the limits of the process that runs them."""

    task: bytes
    item: bytes
    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Answer:
    """What happened in a worker: the pickled value of a job that is done, else words."""

    kind: Kind
    value: bytes = b""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a job. ``value`` is the task's result where ``kind`` is ``done``; ``attempts`` counts the starts.

    ``resumed`` says that the ledger had it already.
    """

    key: str
    kind: Kind
    value: Any = None
    reason: str = ""
    attempts: int = 1
    worker: str = ""
    resumed: bool = False


class Workers(Protocol):
    """Places where calls run, one at a time in each slot. A slot that went away does not come back under its name."""

    def free(self) -> Mapping[str, str]:
        """Slots that wait for a call, with the device of each; may start or find new ones."""
        ...

    def start(self, slot: str, call: Call) -> None:
        """Begins a call in a free slot."""
        ...

    def wait(self, seconds: float) -> list[tuple[str, Answer]]:
        """What has ended, waiting up to so many seconds for the first."""
        ...

    def abandon(self, slot: str) -> None:
        """Ends a slot and whatever runs in it; nothing more is heard of it."""
        ...

    def close(self) -> None:
        """Ends all workers; calling it again does nothing."""
        ...
