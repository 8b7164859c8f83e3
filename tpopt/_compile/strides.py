"""Values that lie in memory in another order than what reads them was measured with, or than a result may have."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from tpopt._compile.check import example, values_of
from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.candidate import ROW, Candidate, Value
from tpopt.choose.cover import Choice, solved
from tpopt.errors import InvalidProgram

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.runtime.compiled import Specialization, State

REASON = "its result lies in memory in another order than what reads it was measured with, or than results may have"


def without_transposed(attempt: Attempt, choice: Choice, special: Specialization, state: State) -> Choice | None:
    """The cheapest plan whose results and generated kernels' operands lie in order; ``None`` where ``choice`` is it.

    A product of matrices may come out transposed, and what reads it take several times as long as for dense memory; a
    view that is returned is copied. Prices do not know: each was measured on what another candidate made. The last race
    does.
    """
    assert attempt.traced is not None
    read = {v for c in choice.solution.picked if is_generated(c) for v in c.needs}
    returned = {Value(o.name) for o in attempt.traced.original.outputs}
    makers = {v: c for c in choice.solution.picked if not is_generated(c) for v in c.produces if v.layout == ROW}
    doubtful = {v for v, c in makers.items() if v in returned or (v in read and _made_by_library(c))}
    if not doubtful:
        return None
    values = values_of(special)(*example(attempt, attempt.traced, state))
    odd = {v for v in doubtful if v.name in values and not values[v.name].is_contiguous()}
    lost = [c for c in choice.found.admitted if not is_generated(c) and _makes(c, odd, returned)]
    if not lost:
        return None
    try:
        left = choice.found.without(lost, REASON)
        again = solved(attempt.traced.original, attempt.forms, left, choice.prices, choice.spending)
    except InvalidProgram:
        return None
    return again if attempt.prover.all_proved(again.solution.picked) else None


def _makes(candidate: Candidate, odd: Set[Value], returned: Set[Value]) -> bool:
    """Whether it may make what lies out of order: original operators may of what is not returned."""
    return not odd.isdisjoint(v for v in candidate.produces if v in returned or _made_by_library(candidate))


def _made_by_library(candidate: Candidate) -> bool:
    """Whether a kernel of a library computes it, in place of the original operators."""
    return not (is_generated(candidate) or candidate.free or candidate.name.endswith(":original"))
