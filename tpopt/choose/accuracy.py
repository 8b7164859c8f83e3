"""Accuracy as a budget of the chooser: what every approximate candidate adds to the squared error of the outputs.

Rounding errors of different values are independent to first order, so the squared relative errors of the outputs add
up, and a budget for them is linear. It enters the chooser by a price on squared error, which is raised until the sum
holds: the cover program stays as easy as without a budget, where a row of many small numbers makes it hard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tpopt.choose.candidate import Candidate, Candidates
from tpopt.choose.narrow import rounded
from tpopt.ir.walk import stage_reads
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite.numerics import Numerics

if TYPE_CHECKING:
    from tpopt.choose.cover import Choice

DEAREST: Final = 8
STEPS: Final = 6
"""Prices on error tried until the sum holds, and then to come down again."""

Errors = tuple[float, ...]


@dataclass
class AccuracyBudget:
    """Squared errors of approximate values by name, asked for once each.

    Args:
        storages: what makes values narrow.
        measure: the squared errors of the outputs when one narrow value is stored; None where nobody can tell.
        known: errors by name; whoever reads a constant that is named here from the start makes that error.
    """

    storages: Sequence[Storage]
    measure: Callable[[str, Storage], Errors | None]
    known: dict[str, Errors | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Remembers which constants approximate others."""
        self._constants = frozenset(self.known)
        self._wide = {n: t.name for s in self.storages for n, t in s.origin.items()}
        self._sums: dict[Candidate, Errors | None] = {}

    def of(self, candidate: Candidate) -> Errors | None:
        """What a candidate adds: nothing for an exact one, None where that could not be measured."""
        if candidate.numerics is not Numerics.APPROXIMATE:
            return ()
        if candidate not in self._sums:
            self._sums[candidate] = self._sum(candidate)
        return self._sums[candidate]

    def _sum(self, candidate: Candidate) -> Errors | None:
        found = [self.known[n] for n in self.approximating(candidate)]
        for storage in self.storages:
            for name in rounded(candidate, storage):
                if name not in self.known:
                    self.known[name] = self.measure(name, storage)
                found.append(self.known[name])
        told = [e for e in found if e is not None and all(map(math.isfinite, e))]
        return tuple(map(sum, zip(*told, strict=True))) if told and len(told) == len(found) else None

    def approximating(self, candidate: Candidate) -> list[str]:
        """The constants in a candidate's reads that approximate others, narrow ones under the name they stand for."""
        names = dict.fromkeys(self._wide.get(t.name, t.name) for t in stage_reads(candidate.stage))
        return [n for n in names if n in self._constants]

    def measured(self, found: Candidates) -> None:
        """Measures what is not known yet; candidates whose effect cannot be measured are refused."""
        lost = {c for c in found.admitted if self.of(c) is None}
        for candidate in (c for c in found.admitted if c in lost):
            found.refuse(
                candidate.name, candidate.kind, candidate.covers, "its effect on the outputs could not be measured"
            )
        found.admitted = [c for c in found.admitted if c not in lost]

    def penalties(self, candidates: Iterable[Candidate], price: float) -> dict[str, float]:
        """Microseconds by name when a squared error of one costs ``price``; the worst output decides."""
        return {c.name: price * max(errors) for c in candidates if (errors := self.of(c))}

    def predicted(self, candidates: Iterable[Candidate]) -> float:
        """The largest squared error of an output that these make together."""
        found = [errors for c in candidates if (errors := self.of(c))]
        return max(map(sum, zip(*found, strict=True)), default=0.0)

    def cheapest(self, limit: float, priced: Callable[[float], Choice | None], total_us: float) -> Choice | None:
        """The cheapest cover within a squared error of ``limit``: the least price on error that keeps it there.

        ``priced`` solves for a price in microseconds; ``total_us`` is what an exact cover takes, for the scale.
        """
        free = priced(0.0)
        if free is None or self.predicted(free.solution.picked) <= limit:
            return free
        low, high = 0.0, total_us / limit
        best = None
        for _ in range(DEAREST):
            best = self._within(priced(high), limit)
            if best is not None:
                break
            low, high = high, 8 * high
        for _ in range(STEPS if best is not None else 0):
            middle = (low * high) ** 0.5 if low else high / 8
            choice = self._within(priced(middle), limit)
            low, high, best = (low, middle, choice) if choice is not None else (middle, high, best)
        return best

    def _within(self, choice: Choice | None, limit: float) -> Choice | None:
        return choice if choice is not None and self.predicted(choice.solution.picked) <= limit else None
