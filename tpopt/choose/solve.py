"""The constraint program: the cheapest set of candidates that produces every output.

A candidate is a boolean. What a picked candidate needs must be produced by a picked candidate (or be given); every
output must be produced. Candidates form no cycles: each produces values that come later than what it needs, in an
order that every solution shares. Source of the formulation: tree covering as a set-cover program, with overlap
(recomputation) allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model

from tpopt.choose.candidate import Candidate, Price, Value
from tpopt.errors import InvalidProgram

UNITS_PER_US = 1000
"""Prices enter the program as integer nanoseconds."""
DETERMINISTIC_LIMIT = 10.0
"""CP-SAT's own deterministic time, so that the answer does not depend on how busy the machine is."""
GAP = 5e-4
"""A cover proved to be within this of the cheapest is as good: prices are known to a few percent."""
FULL_LINEARIZATION = 2
"""The relaxation of a cover is nearly integral: with it a ResNet is solved to optimality in 0.7 s, without it not in 60."""


@dataclass(frozen=True)
class Solution:
    """Picked candidates in the order given, their total price, and whether no cheaper set exists."""

    picked: tuple[Candidate, ...]
    total_us: float
    optimal: bool


def solve(
    candidates: Sequence[Candidate], prices: Mapping[str, Price], given: frozenset[Value], outputs: Sequence[Value]
) -> Solution:
    """Picks the cheapest cover. Raises :class:`InvalidProgram` naming an output that no candidate can produce."""
    producers: dict[Value, list[int]] = {}
    for k, candidate in enumerate(candidates):
        for value in candidate.produces:
            producers.setdefault(value, []).append(k)
    for value in outputs:
        if value not in given and value not in producers:
            raise InvalidProgram(f"no candidate produces output {value}")
    model = cp_model.CpModel()
    picks = [model.new_bool_var(f"c{k}") for k in range(len(candidates))]
    for k, candidate in enumerate(candidates):
        for value in candidate.needs:
            if value in given:
                continue
            makers = [picks[m] for m in producers.get(value, ()) if not both_convert(candidate, candidates[m])]
            model.add_bool_or([*makers, picks[k].negated()])
    for value in outputs:
        if value not in given:
            model.add_bool_or([picks[m] for m in producers[value]])
    weights = [round(prices[c.key].us * UNITS_PER_US) for c in candidates]
    model.minimize(sum(w * p for w, p in zip(weights, picks, strict=True)))
    for k, candidate in enumerate(candidates):
        model.add_hint(picks[k], candidate.kind == "original")
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.relative_gap_limit = GAP
    solver.parameters.linearization_level = FULL_LINEARIZATION
    solver.parameters.max_deterministic_time = DETERMINISTIC_LIMIT
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise InvalidProgram(
            f"the cover program has no solution ({solver.status_name(status)}): a needed value has no producer"
        )
    chosen = [c for k, c in enumerate(candidates) if solver.boolean_value(picks[k])]
    kept = _needed(chosen, outputs, given)
    return Solution(tuple(kept), sum(prices[c.key].us for c in kept), status == cp_model.OPTIMAL)


def both_convert(user: Candidate, maker: Candidate) -> bool:
    """A conversion may not feed a conversion: two opposite ones would hold each other up."""
    return user.kind == maker.kind == "layout"


def _needed(chosen: list[Candidate], outputs: Sequence[Value], given: frozenset[Value]) -> list[Candidate]:
    """Drops picked candidates of price zero that nothing uses, and duplicates of a value."""
    maker: dict[Value, Candidate] = {}
    for candidate in sorted(chosen, key=lambda c: c.kind == "layout"):
        for value in candidate.produces:
            maker.setdefault(value, candidate)
    wanted: dict[Candidate, None] = {}
    pending = [v for v in outputs if v not in given]
    while pending:
        candidate = maker[pending.pop()]
        if candidate not in wanted:
            wanted[candidate] = None
            pending.extend(v for v in candidate.needs if v not in given)
    return [c for c in chosen if c in wanted]
