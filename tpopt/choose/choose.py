"""The chooser: every candidate for every value, priced, and the cheapest cover as a plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tpopt.backend.generated import candidates as generated
from tpopt.backend.generated.binding import build_all
from tpopt.choose.assemble import assemble
from tpopt.choose.candidate import Candidate, Candidates, Price, Refused, Value
from tpopt.choose.careful import affordable, excess_terms
from tpopt.choose.cover import Choice, solved
from tpopt.choose.pricing import Pricer, planned
from tpopt.choose.rounds import priced
from tpopt.choose.solve import Solution, Spending
from tpopt.errors import InvalidProgram
from tpopt.ir import Program
from tpopt.ir.walk import stage_reads
from tpopt.options import Kernels

_FAILURE: Final = re.compile(r"\w+Error: ")
"""How the reason reads that an operator was turned down for when it ran and raised."""


def choose(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    pricer: Pricer,
    kernels: Kernels = "all",
    admits: Callable[[Sequence[Candidate], Candidates], bool] = lambda _picked, _found: True,
) -> Choice:
    """Prices and solves. The plan has the signature of ``original`` and the weights of all programs that it uses.

    Nothing approximate is picked: that is for :func:`solved` with a budget. With ``kernels="generated"`` nothing else
    runs where a generated kernel could be built. ``admits`` says whether what was picked may run, and refuses what may
    not among the candidates. Raises :class:`InvalidProgram` where an operator of the model itself
    fails on the example inputs.
    """
    prices = priced(original, forms, found, pricer, thorough=kernels == "generated")
    failed = next((r for r in found.refused if r.name.endswith(":original") and _FAILURE.match(r.reason)), None)
    if failed is not None and _is_fed_by_inputs(failed, original):
        raise InvalidProgram(_own_failure(failed))
    if kernels == "generated":
        _prepare(found.admitted, found, pricer)
        _only_generated(found)
    try:
        choice = solved(original, forms, found, prices)
        while not (_prepare(choice.solution.picked, found, pricer) and admits(choice.solution.picked, found)):
            prices = priced(original, forms, found, pricer)
            choice = solved(original, forms, found, prices)
    except InvalidProgram as error:
        if failed is None:
            raise
        raise InvalidProgram(_own_failure(failed)) from error
    return choice


def _prepare(picked: Sequence[Candidate], found: Candidates, pricer: Pricer) -> bool:
    """Whether all generated kernels among these can be built; those that cannot are refused.

    What was measured was built for that.
    """
    if pricer.profiler is not None:
        return True
    made = list(filter(generated.is_generated, picked))
    build_all(planned(c) for c in made)
    broken = {c: reason for c in made if (reason := pricer.unbuildable(c)) is not None}
    for candidate, reason in broken.items():
        found.refuse(candidate.name, candidate.kind, candidate.covers, reason)
    found.admitted = [c for c in found.admitted if c not in broken]
    return not broken


def _only_generated(found: Candidates) -> None:
    """Leaves generated kernels alone in the race for what they compute; everything else runs as it did."""
    made = {v.name for c in found.admitted if c.kind == generated.KIND for v in c.produces}
    others = [c for c in found.admitted if c.kind != generated.KIND and any(v.name in made for v in c.produces)]
    for candidate in others:
        found.refuse(candidate.name, candidate.kind, candidate.covers, "only generated kernels were asked for")
    found.admitted = [c for c in found.admitted if c not in others]


def _is_fed_by_inputs(failed: Refused, original: Program) -> bool:
    """Whether an operator reads inputs and weights alone, so that nothing but these made it fail."""
    given = {*original.inputs, *original.weights}
    stage = next((s for s in original.stages if any(o.name in failed.covers for o in s.outs)), None)
    return stage is not None and given.issuperset(stage_reads(stage))


def _own_failure(failed: Refused) -> str:
    name = failed.name.removesuffix(":original")
    return f"the model's own operator {name} fails on the example inputs: {failed.reason}"


def choose_again(
    original: Program,
    forms: Sequence[Program],
    before: Choice,
    pricer: Pricer,
    *,
    error: float,
    tolerance: float,
) -> Choice | None:
    """The cheapest cover whose long sums lose less than those that made ``error``; ``None`` where none are long."""
    limit = affordable(before.solution.picked, pricer.sizes, error, tolerance)
    if limit is None:
        return None
    offered = (*before.found.admitted, *before.found.unbuilt)
    spending = (Spending({c.name: n for c in offered if (n := excess_terms(c, pricer.sizes))}, limit),)
    found = replace(before.found, refused=[*before.found.refused])
    return solved(original, forms, found, priced(original, forms, found, pricer, spending), spending)


def only_originals(original: Program, found: Candidates, prices: dict[str, Price]) -> Choice | None:
    """The plan that runs every original operator as it is; ``None`` when one of them failed on its own."""
    given = frozenset(Value(t.name) for t in (*original.inputs, *original.weights))
    plain = [c for c in found.admitted if c.name.endswith(":original")]
    if len(plain) < len(original.stages):
        return None
    solution = Solution(tuple(plain), sum(prices[c.key].us for c in plain), optimal=True)
    return Choice(assemble(original, plain, prices, given), solution, found, prices)
