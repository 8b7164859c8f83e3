"""Results of libraries that lie in memory in another order than those were measured with that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpopt._compile.check import example, values_of
from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.candidate import ROW, Candidate
from tpopt.choose.choose import Choice, solved
from tpopt.errors import InvalidProgram

if TYPE_CHECKING:
    from tpopt._compile.attempt import Attempt
    from tpopt.runtime.compiled import Specialization, State

REASON = "its result lies in memory in another order than generated kernels that read it were measured with"


def without_transposed(attempt: Attempt, special: Specialization, state: State) -> Choice | None:
    """The cheapest plan in which generated kernels read what lies in order; ``None`` where they do already.

    A product of matrices may come out transposed, and what reads it take several times as long as for dense memory.
    Prices do not know: each was measured on what another candidate made. The last race does.
    """
    assert attempt.traced is not None
    assert attempt.choice is not None
    choice = attempt.choice
    read = {v for c in choice.solution.picked if is_generated(c) for v in c.needs}
    made = [v for c in choice.solution.picked if _made_by_library(c) for v in c.produces]
    doubtful = {v for v in made if v in read and v.layout == ROW}
    if not doubtful:
        return None
    values = values_of(special)(*example(attempt, attempt.traced, state))
    odd = {v for v in doubtful if v.name in values and not values[v.name].is_contiguous()}
    lost = [c for c in choice.found.admitted if _made_by_library(c) and odd.intersection(c.produces)]
    if not lost:
        return None
    try:
        again = solved(attempt.traced.original, attempt.forms, choice.found.without(lost, REASON), choice.prices)
    except InvalidProgram:
        return None
    return again if attempt.prover.all_proved(again.solution.picked) else None


def _made_by_library(candidate: Candidate) -> bool:
    """Whether a kernel of a library computes it, in place of the original operators."""
    return not (is_generated(candidate) or candidate.free or candidate.name.endswith(":original"))
