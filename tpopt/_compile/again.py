"""What is chosen after verification turned a plan down."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tpopt._compile.derivations import without_culprit, without_derived
from tpopt.choose.choose import choose_again
from tpopt.choose.cover import Choice, solved
from tpopt.choose.rounds import priced
from tpopt.errors import InvalidProgram

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.choose.candidate import Candidates
    from tpopt.choose.pricing import Pricer

_log = logging.getLogger("tpopt")

MAX_CHOICES = 5
"""Further choices after one that verification turned down; the last is the plan of originals."""
MOST_BY_ROUNDING = 16.0
"""Times what is allowed that a plan is off because its sums are long; what is further off is wrong."""
SHARE = 0.5
"""Part of the time that is left which kernels for the next choice may take."""
DERIVATIONS_GO_AT = 2
"""Choices after which no terms are saved any more, and all derivations go before single candidates do."""


def chosen_again(attempt: Attempt, left: int) -> Choice | None:
    """The next of ``left`` choices after one that verification turned down; ``None`` where nothing is left to try.

    What lost accuracy in long sums is first chosen again with less to spend, and with still less. Then the candidates
    are left out at which the results began to differ (with the derivation that they belong to, if any), then all
    derivations, then candidates again. The plan of originals comes last.
    """
    row, before, pricer = attempt.verification, attempt.choice, attempt.pricer
    if row is None or before is None or pricer is None or not left or before is attempt.plain:
        return None
    if left > 1 and time.perf_counter() < attempt.deadline:
        pricer.deadline = attempt.until(SHARE)
        for again in _remedies(attempt, before, pricer, MAX_CHOICES - left):
            if again is not None and attempt.prover.all_proved(again.solution.picked):
                return again
    return attempt.plain


def _remedies(attempt: Attempt, before: Choice, pricer: Pricer, tried: int) -> Iterator[Choice | None]:
    """Each is chosen when the one before it was of no use."""
    assert attempt.traced is not None
    assert attempt.verification is not None
    original, picked = attempt.traced.original, before.solution.picked
    error, tolerance = attempt.verification.l2_rel or 0.0, attempt.verification.tolerance or 0.0
    if tried < DERIVATIONS_GO_AT and tolerance < error <= MOST_BY_ROUNDING * tolerance:
        yield choose_again(original, attempt.forms, before, pricer, error=error, tolerance=tolerance)
    exact = without_derived(before.found, attempt.history, picked)
    sound = _without_culprit(attempt, before)
    for found in (sound, exact) if tried < DERIVATIONS_GO_AT else (exact, sound):
        if found is None:
            continue
        if found is sound:
            _log.warning("verification turned a plan down, which is chosen again without its %s", attempt.culprit)
        try:
            yield solved(original, attempt.forms, found, priced(original, attempt.forms, found, pricer))
        except InvalidProgram:
            yield None


def _without_culprit(attempt: Attempt, before: Choice) -> Candidates | None:
    if attempt.culprit is None:
        return None
    return without_culprit(before.found, attempt.history, before.solution.picked, attempt.culprit.name)
