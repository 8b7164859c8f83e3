"""The constraint program: the cheapest set of candidates that produces every output.

A candidate is a boolean. What a picked candidate needs must be produced by a picked candidate (or be given); every
output must be produced. A tensor has at most one kernel that computes it (its other layout is a conversion away); a
narrow value (in bf16, say) counts as one more layout of what it stands for. What a wide cover computes inside is not
counted, so recomputation by overlap is allowed. Because the candidates for one tensor exclude each other, their needs
add up, and what every cover computes, in whatever way, is stated: that makes the linear relaxation tight. No conversion
feeds a conversion. Candidates of one program form no cycles; those of several forms of it may, and a picked cycle is
cut off when it shows.
Source of the formulation: tree covering as a set-cover program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ortools.sat.python import cp_model

from tpopt.choose.candidate import Candidate, Price, Value
from tpopt.choose.essential import essential_groups
from tpopt.errors import InvalidProgram

UNITS_PER_US = 1000
"""Prices enter the program as integer nanoseconds."""
DETERMINISTIC_LIMIT = 10.0
"""CP-SAT's own deterministic time, so that the answer does not depend on how busy the machine is."""
WIN = 0.97
"""A measured win counts from 3 %: an original operator enters that much cheaper than it measured."""
GAP = 5e-4
"""A cover proved to be within this of the cheapest is as good: prices are known to a few percent."""
FULL_LINEARIZATION = 2
"""The relaxation of a cover is nearly integral: with it a MobileNet is solved in 0.2 s."""


@dataclass(frozen=True)
class Spending:
    """What candidates spend of a budget, by name (nothing where there is no entry), and the budget."""

    amounts: Mapping[str, int]
    limit: int


@dataclass(frozen=True)
class Holding:
    """Constants that candidates read, by name, and their bytes: what several read is there once. ``limit`` bounds them.

    ``price`` is microseconds that a byte counts as.
    """

    reads: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    limit: float = float("inf")
    price: float = 0.0


@dataclass(frozen=True)
class Solution:
    """Picked candidates in the order given, their total price, and whether no cheaper set exists."""

    picked: tuple[Candidate, ...]
    total_us: float
    optimal: bool


def solve(
    candidates: Sequence[Candidate],
    prices: Mapping[str, Price],
    given: frozenset[Value],
    outputs: Sequence[Value],
    spending: Sequence[Spending] = (),
    *,
    wide: Mapping[str, str] = MappingProxyType({}),
    penalties: Mapping[str, float] = MappingProxyType({}),
    holding: Holding | None = None,
) -> Solution:
    """Picks the cheapest cover within every budget. ``wide`` has the name of what each narrow value stands for.

    ``penalties`` by a candidate's name are microseconds that it counts as more than it costs: the price of what it
    spends of a budget that has no row (a Lagrange multiplier), which leaves the program as easy as it was. ``holding``
    counts the bytes of constants.

    Raises :class:`InvalidProgram` naming an output that no candidate can produce, or when no cover fits the budget.
    """
    model = cp_model.CpModel()
    picks = [model.new_bool_var(f"c{k}") for k in range(len(candidates))]
    _covers(model, picks, candidates, given, outputs, wide)
    for budget in spending:
        amounts = [budget.amounts.get(c.name, 0) for c in candidates]
        model.add(sum(a * p for a, p in zip(amounts, picks, strict=True) if a) <= budget.limit)
    costs = (_cost(c, prices[c.key]) + penalties.get(c.name, 0.0) for c in candidates)
    weights = [round(cost * UNITS_PER_US) for cost in costs]
    terms = [w * p for w, p in zip(weights, picks, strict=True)]
    model.minimize(sum(terms + ([] if holding is None else _held(model, candidates, picks, holding))))
    for k, candidate in enumerate(candidates):
        model.add_hint(picks[k], candidate.name.endswith(":original"))
    chosen, optimal = _chosen(model, picks, candidates, given)
    kept = _needed([candidates[k] for k in chosen], outputs, given)
    return Solution(tuple(kept), sum(prices[c.key].us for c in kept), optimal)


def _held(
    model: cp_model.CpModel, candidates: Sequence[Candidate], picks: Sequence[cp_model.IntVar], holding: Holding
) -> list[cp_model.LinearExpr]:
    """Adds what makes constants that a picked candidate reads count; returns the price of each."""
    there = {name: model.new_bool_var(f"w{k}") for k, name in enumerate(holding.sizes)}
    for candidate, pick in zip(candidates, picks, strict=True):
        for name in holding.reads.get(candidate.name, ()):
            model.add_implication(pick, there[name])
    if holding.limit < sum(holding.sizes.values()):
        model.add(sum(size * there[name] for name, size in holding.sizes.items()) <= int(holding.limit))
    prices = {name: round(size * holding.price * UNITS_PER_US) for name, size in holding.sizes.items()}
    return [p * there[name] for name, p in prices.items() if p]


def _covers(
    model: cp_model.CpModel,
    picks: Sequence[cp_model.IntVar],
    candidates: Sequence[Candidate],
    given: frozenset[Value],
    outputs: Sequence[Value],
    wide: Mapping[str, str],
) -> None:
    """Adds what makes a set of candidates a cover."""
    makers = _Makers(candidates, picks, given, wide)
    for value in outputs:
        if value not in given:
            if not makers.of(value):
                raise InvalidProgram(f"no candidate produces output {value}")
            model.add(sum(makers.of(value)) >= 1)
    for name in makers.names():
        model.add_at_most_one(makers.kernels(name))
    for positions in essential_groups(candidates, given, outputs, wide):
        model.add_bool_or(picks[k] for k in positions)
    for group in makers.groups():
        for value, users in group.by_value.items():
            model.add(sum(makers.of(value, feeding_conversion=group.converts)) >= sum(users))
        for name, users in group.by_name.items():
            model.add(sum(makers.kernels(name)) >= sum(users))


def _chosen(
    model: cp_model.CpModel, picks: Sequence[cp_model.IntVar], candidates: Sequence[Candidate], given: frozenset[Value]
) -> tuple[list[int], bool]:
    """Positions of the picked candidates, and whether no cheaper cover exists; a cycle is cut off when it shows."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.relative_gap_limit = GAP
    solver.parameters.linearization_level = FULL_LINEARIZATION
    solver.parameters.max_deterministic_time = DETERMINISTIC_LIMIT
    while True:
        status = solver.solve(model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            raise InvalidProgram(
                f"the cover program has no solution ({solver.status_name(status)}): a needed value has no producer"
            )
        chosen = [k for k in range(len(candidates)) if solver.boolean_value(picks[k])]
        cycle = _cycle(chosen, candidates, given)
        if not cycle:
            return chosen, status == cp_model.OPTIMAL
        model.add(sum(picks[k] for k in cycle) <= len(cycle) - 1)


def _cost(candidate: Candidate, price: Price) -> float:
    return price.us * (WIN if price.measured and candidate.kind == "original" else 1.0)


@dataclass
class _Group:
    """Candidates of which at most one is picked, by what they need: values, and tensors in whatever layout."""

    converts: bool
    by_value: dict[Value, list[cp_model.IntVar]] = field(default_factory=dict)
    by_name: dict[str, list[cp_model.IntVar]] = field(default_factory=dict)


class _Makers:
    """Who produces what, and who excludes whom."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        picks: Sequence[cp_model.IntVar],
        given: frozenset[Value],
        wide: Mapping[str, str],
    ) -> None:
        self._wide = wide
        self._given = {v.name for v in given}
        self._values: dict[Value, list[tuple[bool, cp_model.IntVar]]] = {}
        self._kernels: dict[str, list[cp_model.IntVar]] = {}
        self._groups: dict[tuple[str, str], _Group] = {}
        for candidate, pick in zip(candidates, picks, strict=True):
            for value in candidate.produces:
                self._values.setdefault(value, []).append((candidate.converts, pick))
            for name in dict.fromkeys(map(self._name, candidate.produces)) if not candidate.converts else ():
                self._kernels.setdefault(name, []).append(pick)
            self._group(candidate, pick, given)

    def _name(self, value: Value) -> str:
        return self._wide.get(value.name, value.name)

    def _group(self, candidate: Candidate, pick: cp_model.IntVar, given: frozenset[Value]) -> None:
        first = candidate.produces[0] if candidate.produces else Value(candidate.name)
        converts = candidate.converts
        group = self._groups.setdefault(
            (first.name, first.layout) if converts else (self._name(first), "kernel"), _Group(converts)
        )
        for value in dict.fromkeys(candidate.needs):
            if value not in given:
                group.by_value.setdefault(value, []).append(pick)
        for name in dict.fromkeys(map(self._name, candidate.needs)):
            if name not in self._given:
                group.by_name.setdefault(name, []).append(pick)

    def of(self, value: Value, *, feeding_conversion: bool = False) -> list[cp_model.IntVar]:
        """Candidates that produce a value; a conversion may not feed a conversion."""
        return [p for converts, p in self._values.get(value, ()) if not (converts and feeding_conversion)]

    def kernels(self, name: str) -> list[cp_model.IntVar]:
        """Candidates that compute a tensor, in any layout."""
        return self._kernels.get(name, [])

    def names(self) -> list[str]:
        """Tensors that some candidate computes."""
        return list(self._kernels)

    def groups(self) -> list[_Group]:
        """Candidates by the tensor they compute; conversions by the layout they make."""
        return list(self._groups.values())


def _cycle(chosen: Sequence[int], candidates: Sequence[Candidate], given: frozenset[Value]) -> list[int]:
    """Positions of picked candidates that wait for each other in a circle; empty where everyone gets a turn."""
    have, waiting = set(given), list(chosen)
    while waiting:
        later = [k for k in waiting if not have.issuperset(candidates[k].needs)]
        if len(later) == len(waiting):
            return _circle(waiting, candidates, have)
        have.update(v for k in waiting if k not in later for v in candidates[k].produces)
        waiting = later
    return []


def _circle(waiting: Sequence[int], candidates: Sequence[Candidate], have: set[Value]) -> list[int]:
    """Follows from one that waits to one that makes what it lacks, until somebody comes up twice."""
    maker = {v: k for k in reversed(waiting) for v in candidates[k].produces}
    path: dict[int, None] = {}
    current = waiting[0]
    while current not in path:
        path[current] = None
        current = next(maker[v] for v in candidates[current].needs if v not in have)
    found = list(path)
    return found[found.index(current) :]


def _needed(chosen: list[Candidate], outputs: Sequence[Value], given: frozenset[Value]) -> list[Candidate]:
    """Drops picked candidates of price zero that nothing uses, and duplicates of a value."""
    maker: dict[Value, Candidate] = {}
    for candidate in sorted(chosen, key=lambda c: c.converts):
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
