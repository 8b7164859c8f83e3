"""The best plan without generated kernels, for the last race."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.cover import solved
from tpopt.errors import InvalidProgram

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.choose.cover import Choice

REASON: Final = "the plan of libraries alone was faster end to end"
CLOSE: Final = 1.3
"""Times the price of the cheapest plan from which it is not worth a try: a busy machine has been off by so much."""


def libraries_alone(attempt: Attempt, choice: Choice) -> Choice | None:
    """The cheapest plan of original operators and library kernels; ``None`` where it is far behind, or the plan itself.

    Kernels are priced one at a time, and those of libraries in another minute than those that were built later.
    """
    assert attempt.traced is not None
    generated = {c for c in choice.found.admitted if is_generated(c)}
    if generated.isdisjoint(choice.solution.picked):
        return None
    found = choice.found.without(generated, REASON)
    try:
        again = solved(attempt.traced.original, attempt.forms, found, choice.prices, choice.spending)
    except InvalidProgram:
        return None
    if again.solution.total_us > CLOSE * choice.solution.total_us:
        return None
    return again if attempt.prover.all_proved(again.solution.picked) else None
