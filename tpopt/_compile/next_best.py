"""The plans next to the cheapest, for the last race: those without one of its dear kernels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tpopt.choose.cover import solved
from tpopt.errors import InvalidProgram

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.choose.cover import Choice

REASON: Final = "a plan without it was faster end to end"
CLOSE: Final = 1.25
"""Times the price of the cheapest plan from which one is not worth a try: prices of single kernels have been off by so
much."""
DEAR: Final = 0.1
"""Share of a plan's price from which a kernel can make a difference that a race can tell."""
MOST: Final = 2
"""Plans that take part."""
SECONDS: Final = 1.0
"""After which no other plan is asked for."""


def next_best(attempt: Attempt, choice: Choice) -> list[Choice]:
    """The cheapest plans, at most :data:`MOST`, that lack a kernel which is dear in the chosen one, the best first.

    The second cheapest of all plans lacks at least one kernel of the cheapest.
    """
    assert attempt.traced is not None
    end = time.perf_counter() + SECONDS
    total, price = choice.solution.total_us, {c: choice.prices[c.key].us for c in choice.solution.picked}
    found: dict[frozenset[str], Choice] = {}
    for candidate in sorted(price, key=price.__getitem__, reverse=True):
        if price[candidate] < DEAR * total or time.perf_counter() > end:
            break
        left = choice.found.without([candidate], REASON)
        try:
            other = solved(attempt.traced.original, attempt.forms, left, choice.prices, choice.spending)
        except InvalidProgram:
            continue
        if other.solution.total_us <= CLOSE * total and attempt.prover.all_proved(other.solution.picked):
            found.setdefault(frozenset(c.name for c in other.solution.picked), other)
    return sorted(found.values(), key=lambda c: c.solution.total_us)[:MOST]
