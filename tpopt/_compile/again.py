"""What is chosen after verification turned a plan down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tpopt._compile.derivations import without_culprit, without_derived
from tpopt.choose.choose import Choice, choose_again, solved
from tpopt.errors import InvalidProgram

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.choose.candidate import Candidates

_log = logging.getLogger("tpopt")

MAX_CHOICES = 5
"""Further choices after one that verification turned down; the last is the plan of originals."""
MOST_BY_ROUNDING = 16.0
"""Times what is allowed that a plan is off because its sums are long; what is further off is wrong."""


def chosen_again(attempt: Attempt, left: int) -> Choice | None:
    """The next of ``left`` choices after one that verification turned down; ``None`` where nothing is left to try.

    What lost accuracy in long sums is first chosen again with less to spend. Then the candidates are left out at which
    the results began to differ (with the derivation that they belong to, if any), then all derivations, then candidates
    again. The plan of originals comes last.
    """
    row, before = attempt.verification, attempt.choice
    if row is None or before is None or not left or before is attempt.plain:
        return None
    if left > 1 and time.perf_counter() < attempt.deadline:
        for remedy in _remedies(attempt, before, MAX_CHOICES - left):
            again = remedy()
            if again is not None and attempt.prover.all_proved(again.solution.picked):
                return again
    return attempt.plain


def _remedies(attempt: Attempt, before: Choice, tried: int) -> Iterator[Callable[[], Choice | None]]:
    assert attempt.traced is not None
    assert attempt.verification is not None
    original, row, picked = attempt.traced.original, attempt.verification, before.solution.picked
    error, tolerance = row.l2_rel, row.tolerance

    def without(found: Candidates | None) -> Choice | None:
        try:
            return None if found is None else solved(original, attempt.forms, found, before.prices)
        except InvalidProgram:
            return None

    if not tried and error is not None and tolerance is not None and tolerance < error <= MOST_BY_ROUNDING * tolerance:
        yield lambda: choose_again(original, attempt.forms, before, attempt.sizes, error=error, tolerance=tolerance)
    exact = without_derived(before.found, attempt.history, picked)
    if exact is not None and tried > 1:
        yield lambda: without(exact)
    if attempt.culprit is not None:
        left = without_culprit(before.found, attempt.history, picked, attempt.culprit.name)
        if left is not None:
            _log.warning("verification turned a plan down, which is chosen again without its %s", attempt.culprit)
        yield lambda: without(left)
    yield lambda: without(exact)
