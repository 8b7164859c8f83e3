"""Accuracy as a budget of the chooser: what every approximate candidate adds to the squared error of the outputs.

Rounding errors of different values are independent to first order, so the squared relative errors of the outputs add
up: one linear row for each output. Where a prediction fails, the finished program's own error scales the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tpopt.choose.candidate import Candidate, Candidates
from tpopt.choose.narrow import rounded
from tpopt.choose.solve import Spending
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite.numerics import Numerics

UNITS: Final = 10**6
"""A budget in integers; errors below a millionth of it count as one."""

Errors = tuple[float, ...]


@dataclass
class AccuracyBudget:
    """Squared errors of approximate values by name, asked for once each.

    Args:
        storages: what makes values narrow.
        measure: the squared errors of the outputs when one narrow value is stored; None where nobody can tell.
    """

    storages: Sequence[Storage]
    measure: Callable[[str, Storage], Errors | None]
    known: dict[str, Errors | None] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> Errors | None:
        """What a candidate adds: nothing for an exact one, None where that could not be measured."""
        if candidate.numerics is not Numerics.APPROXIMATE:
            return ()
        found: list[Errors] = []
        for storage in self.storages:
            for name in rounded(candidate, storage):
                if name not in self.known:
                    self.known[name] = self.measure(name, storage)
                errors = self.known[name]
                if errors is None or not all(map(math.isfinite, errors)):
                    return None
                found.append(errors)
        return tuple(map(sum, zip(*found, strict=True))) if found else None

    def measured(self, found: Candidates) -> None:
        """Measures what is not known yet; candidates whose effect cannot be measured are refused."""
        lost = {c for c in found.admitted if self.of(c) is None}
        for candidate in (c for c in found.admitted if c in lost):
            found.refuse(
                candidate.name, candidate.kind, candidate.covers, "its effect on the outputs could not be measured"
            )
        found.admitted = [c for c in found.admitted if c not in lost]

    def rows(self, candidates: Iterable[Candidate], limit: float) -> tuple[Spending, ...]:
        """One row for each output: squared errors within ``limit``, a squared relative error."""
        amounts = {c.name: errors for c in candidates if (errors := self.of(c))}
        width = max(map(len, amounts.values()), default=0)
        return tuple(Spending(_column(amounts, k, limit), UNITS) for k in range(width))

    def predicted(self, candidates: Iterable[Candidate]) -> float:
        """The largest squared error of an output that these make together."""
        found = [errors for c in candidates if (errors := self.of(c))]
        return max(map(sum, zip(*found, strict=True)), default=0.0)


def _column(amounts: Mapping[str, Errors], k: int, limit: float) -> dict[str, int]:
    return {n: min(2 * UNITS, math.ceil(UNITS * e[k] / limit)) if limit else 2 * UNITS for n, e in amounts.items()}


def exact_only(candidates: Iterable[Candidate]) -> Spending:
    """The row that admits nothing approximate."""
    return Spending({c.name: 1 for c in candidates if c.numerics is Numerics.APPROXIMATE}, 0)
