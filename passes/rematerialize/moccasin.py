"""Moccasin as published: retention intervals on a staged axis of events, by CP-SAT.

Bartan, Li, Teague, Lott, Dilkina, "Moccasin: Efficient Tensor Rematerialization for Neural Networks" (ICML 2023). Kept
here as the yardstick; :mod:`tpopt.passes.rematerialize.fixed_order` solves the same problem with other variables.

Stage ``s`` is the first computation of the ``s``-th node of the input order. The node of position ``i`` may start at
the events ``s(s+1)/2 + i`` for ``s >= i``, its first copy at ``s = i``, so that no two computations share an event and
first computations keep the input order. Each copy is an optional interval from its event to its last consumer; one
cumulative constraint holds the memory, one reservoir for each edge and copy of the consumer holds the precedence.
Lengths of intervals come from a list of at most ``5n`` values spaced logarithmically, a restriction of the published
program under which "optimal" is no proof. A first phase looks for any schedule within the budget, a second one for the
fastest, from the first one's solution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from ortools.sat.python import cp_model

from tpopt.passes.rematerialize.graph import ComputationGraph

COPIES: Final = 2
"""Computations of one node that the published experiments allow."""
HORIZON: Final = 1.1
"""Last end of an interval, as a multiple of the last event."""
LENGTHS_PER_NODE: Final = 5


def moccasin(
    graph: ComputationGraph, budget: int, seconds: float, *, workers: int = 2, copies: int = COPIES
) -> tuple[int, ...] | None:
    """The best schedule of both phases, each of which takes up to ``seconds``; None where the first found none."""
    program = _Program(graph, budget, copies)
    tau = program.model.new_int_var(budget, max(budget, sum(graph.sizes)), "tau")
    program.model.add(tau >= program.footprint)
    program.model.minimize(tau)
    solver = _solver(seconds, workers)
    if solver.solve(program.model) not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return None
    best = program.sequence(solver)
    for variable in program.variables:
        program.model.add_hint(variable, solver.value(variable))
    program.model.clear_objective()  # type: ignore[no-untyped-call]
    program.model.add(program.footprint <= budget)
    unit = math.gcd(*graph.durations) or 1
    durations = [graph.durations[v] // unit for v in graph.order]
    program.model.minimize(sum(durations[i] * literal for (i, _), literal in program.present.items()))
    solver = _solver(seconds, workers)
    if solver.solve(program.model) in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return program.sequence(solver)
    return best


def _solver(seconds: float, workers: int) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = workers
    solver.parameters.max_time_in_seconds = seconds
    return solver


def event(stage: int, position: int) -> int:
    """The event at which the node of a position may be computed in a stage."""
    return stage * (stage + 1) // 2 + position


def lengths(n: int) -> list[int]:
    """The lengths that intervals may have, 1 to the horizon."""
    longest = int(HORIZON * n * (n + 1) / 2) + 1
    count = LENGTHS_PER_NODE * n
    return sorted({round(longest ** (k / max(count - 1, 1))) for k in range(count)})


@dataclass
class _Program:
    graph: ComputationGraph
    budget: int
    copies: int
    model: cp_model.CpModel = field(default_factory=cp_model.CpModel)

    def __post_init__(self) -> None:
        n = len(self.graph)
        self.horizon = int(HORIZON * n * (n + 1) / 2) + 1
        self._allowed = cp_model.Domain.from_values(lengths(n))
        self.variables: list[Any] = []
        self.present: dict[tuple[int, int], Any] = {}
        self.start: dict[tuple[int, int], Any] = {}
        self.end: dict[tuple[int, int], Any] = {}
        intervals = [self._interval(i, c) for i in range(n) for c in range(self._most(i))]
        unit = math.gcd(*self.graph.sizes) or 1
        demands = [self.graph.sizes[self.graph.order[i]] // unit for i in range(n) for _ in range(self._most(i))]
        scaled = self.model.new_int_var(0, max(1, sum(demands)), "footprint")
        self.variables.append(scaled)
        self.footprint = scaled * unit
        self.model.add_cumulative(intervals, demands, scaled)
        place = {v: i for i, v in enumerate(self.graph.order)}
        for v in self.graph.order:
            for u in self.graph.predecessors[v]:
                for copy in range(self._most(place[v])):
                    self._serve(place[u], place[v], copy)

    def _most(self, i: int) -> int:
        repeatable = self.graph.repeatable[self.graph.order[i]] and i + 1 < len(self.graph)
        return self.copies if repeatable else 1

    def _interval(self, i: int, copy: int) -> Any:
        n, key = len(self.graph), (i, copy)
        first = event(i, i)
        stages = [event(s, i) for s in range(i, n)]
        domain = cp_model.Domain.from_values([first] if not copy else stages)
        self.start[key] = self.model.new_int_var_from_domain(domain, f"s{i}:{copy}")
        self.end[key] = self.model.new_int_var(0, self.horizon, f"e{i}:{copy}")
        length = self.model.new_int_var_from_domain(self._allowed, f"l{i}:{copy}")
        present = self.present[key] = self.model.new_bool_var(f"a{i}:{copy}")
        self.variables += [self.start[key], self.end[key], length, present]
        if copy:
            self.model.add_implication(present, self.present[i, copy - 1])
            self.model.add(self.end[i, copy - 1] <= self.start[key]).only_enforce_if(present)
        else:
            self.model.add(present == 1)
        return self.model.new_optional_interval_var(self.start[key], length, self.end[key], present, f"i{i}:{copy}")

    def _serve(self, u: int, v: int, copy: int) -> None:
        """A copy of ``v`` runs inside some copy of ``u``: a reservoir that each copy of ``u`` fills while it lasts."""
        times: list[Any] = []
        changes: list[int] = []
        active: list[Any] = []
        for c in range(self._most(u)):
            times += [self.start[u, c] + 1, self.end[u, c]]
            changes += [1, -1]
            active += [self.present[u, c]] * 2
        times += [self.start[v, copy], self.start[v, copy] + 1]
        changes += [-1, 1]
        active += [self.present[v, copy]] * 2
        self.model.add_reservoir_constraint_with_active(times, changes, active, 0, self.copies + 1)

    def sequence(self, solver: cp_model.CpSolver) -> tuple[int, ...]:
        """The copies that are there, by their events."""
        steps = sorted((solver.value(self.start[key]), key[0]) for key, a in self.present.items() if solver.value(a))
        return tuple(self.graph.order[i] for _, i in steps)
