"""Whether a worker still measures what it measured before: a reference that must take the same time again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class DriftCheck:
    """A task that ignores its argument and returns a positive number, say the microseconds of a known kernel.

    It runs first in each worker, then after every ``every`` results, and at the end. Where it differs from that
    worker's first by more than ``tolerance`` (relative), all results since the last check are taken back and measured
    elsewhere.
    """

    reference: Callable[[object], float]
    every: int = 50
    tolerance: float = 0.10


class Watch:
    """What is known of each worker; without a check, every one is steady."""

    def __init__(self, check: DriftCheck | None) -> None:
        self._check = check
        self._first: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def due(self, slot: str, *, last: bool) -> bool:
        """Whether a worker must be checked now; ``last`` where no job is left for it."""
        if self._check is None:
            return False
        if slot not in self._first:
            return not last
        since = self._since.get(slot, 0)
        return since >= self._check.every or (last and since > 0)

    def count(self, slot: str) -> None:
        """Counts a result."""
        self._since[slot] = self._since.get(slot, 0) + 1

    def steady(self, slot: str, value: object) -> bool:
        """Whether a measured reference agrees with the first of that worker; the next results count from here."""
        assert self._check is not None, "nothing is measured without a check"
        if not isinstance(value, (int, float)) or not value > 0:
            return False
        first = self._first.setdefault(slot, float(value))
        self._since[slot] = 0
        return abs(value - first) <= self._check.tolerance * first

    def forget(self, slot: str) -> None:
        """A worker went away."""
        self._first.pop(slot, None)
        self._since.pop(slot, None)
