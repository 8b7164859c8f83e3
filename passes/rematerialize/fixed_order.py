"""Fixed order as integer programs, a boolean for each gap between uses: bounds for all graphs, proofs for small ones.

First computations follow the input order; stage ``t`` is what happens between the computation of the node before and
that of node ``t``, that one included. Between two stages at which a result is used it is either kept or not, so a
result needs one boolean for each gap, where Checkmate (Jain et al., MLSys 2020) has one for each stage.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ortools.sat.python import cp_model

from tpopt.passes.rematerialize.graph import ComputationGraph
from tpopt.passes.rematerialize.simulate import simulate

MOST_REPETITIONS: Final = 20_000
"""Literals up to which the model with all ancestors is built: 150 nodes of a random graph, 200 of a training chain."""
FULL_LINEARIZATION: Final = 2


@dataclass(frozen=True)
class Answer:
    """A schedule (None where the solver found none) and a time that no fixed-order schedule undercuts.

    ``infeasible`` is a proof that none fits.
    """

    sequence: tuple[int, ...] | None
    bound: int
    infeasible: bool = False


def gap_bound(graph: ComputationGraph, budget: int, seconds: float, *, deterministic: bool = False) -> Answer:
    """Bounds the time of fixed-order schedules from below; it counts what is dropped, not what that drags along.

    A result that is not kept over the whole gap between two stages that read it is computed again within the gap, and
    what is kept must fit at each stage. Chains of repetitions are left out, so this holds for any number of copies.
    """
    stages = _Stages.of(graph)
    model = cp_model.CpModel()
    rows: list[list[tuple[int, Any]]] = [[] for _ in graph.ids]
    costs: list[tuple[int, Any]] = []
    for v, uses in enumerate(stages.uses):
        for start, end in zip((v, *uses), uses, strict=False):
            if end - start < 2:
                continue
            keep = model.new_bool_var(f"keep{v}:{start}") if stages.repeatable[v] else 1
            costs.append((stages.durations[v], keep))
            for t in range(start + 1, end):
                rows[t].append((stages.sizes[v], keep))
    for t, row in enumerate(rows):
        room = budget - stages.sizes[t] - stages.workspaces[t] - sum(stages.sizes[u] for u in stages.predecessors[t])
        if sum(size for size, _ in row) > room:
            model.add(sum(size * keep for size, keep in row) <= room)
    model.minimize(sum(cost * (1 - keep) for cost, keep in costs))
    solver = _solver(seconds, deterministic=deterministic)
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Answer(None, graph.duration, infeasible=True)
    return Answer(None, graph.duration + max(0, round(solver.best_objective_bound - 0.49)))


def repetitions(graph: ComputationGraph, most: int) -> bool:
    """Whether the complete model has at most ``most`` booleans for repetitions."""
    stages, total = _Stages.of(graph), 0
    for found in _ancestor_stages(stages):
        total += len(found)
        if total > most:
            return False
    return True


def solve_fixed(
    graph: ComputationGraph,
    budget: int,
    hint: Sequence[int],
    seconds: float,
    *,
    workers: int = 2,
    deterministic: bool = False,
) -> Answer:
    """The fastest fixed-order schedule by CP-SAT, with a bound that holds for all of them.

    The relaxation counts memory at first computations, which any schedule must respect. Where the schedule that it
    proposes exceeds the budget within a stage, rows for the repetitions of that stage are added, as in a cutting-plane
    method; rows that presume an order within the stage end the bound's validity, which then stays where it was.
    """
    program = _Program(graph, budget)
    bound, best = graph.duration, None
    clock = _Remaining(seconds)
    while clock.left > 0:
        solver = _solver(clock.left, workers=workers, deterministic=deterministic)
        program.hint(hint)
        status = solver.solve(program.model)
        clock.spend(solver.wall_time)
        if program.valid:
            if status == cp_model.INFEASIBLE:
                return Answer(None, bound, infeasible=True)
            bound = max(bound, graph.duration + round(solver.best_objective_bound - 0.49))
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            break
        sequence = program.sequence(solver)
        seen = simulate(graph, sequence)
        if seen.peak <= budget:
            best = sequence
            break
        if not program.cut(sequence, seen.loads):
            break
    return Answer(best, bound)


@dataclass
class _Remaining:
    left: float

    def spend(self, seconds: float) -> None:
        self.left -= max(seconds, 1e-3)


def _solver(seconds: float, *, workers: int = 2, deterministic: bool) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = 0
    solver.parameters.linearization_level = FULL_LINEARIZATION
    if deterministic:
        solver.parameters.interleave_search = True
        solver.parameters.max_deterministic_time = seconds
    else:
        solver.parameters.max_time_in_seconds = seconds
    return solver


@dataclass(frozen=True)
class _Stages:
    """The graph with its nodes numbered by the input order, so that a node and its stage have one number."""

    sizes: tuple[int, ...]
    workspaces: tuple[int, ...]
    durations: tuple[int, ...]
    repeatable: tuple[bool, ...]
    predecessors: tuple[tuple[int, ...], ...]
    uses: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(graph: ComputationGraph) -> _Stages:
        place = {v: t for t, v in enumerate(graph.order)}
        return _Stages(
            tuple(graph.sizes[v] for v in graph.order),
            tuple(graph.workspaces[v] for v in graph.order),
            tuple(graph.durations[v] for v in graph.order),
            tuple(graph.repeatable[v] for v in graph.order),
            tuple(tuple(place[u] for u in graph.predecessors[v]) for v in graph.order),
            tuple(tuple(sorted(place[w] for w in graph.successors[v])) for v in graph.order),
        )


def _ancestor_stages(stages: _Stages) -> list[list[int]]:
    """For each node the later stages of its descendants: where computing it again may be of use."""
    masks = [0] * len(stages.sizes)
    for v in reversed(range(len(masks))):
        for w in stages.uses[v]:
            masks[v] |= masks[w] | (1 << w)
    return [[t for t in range(v + 1, len(masks)) if mask >> t & 1] for v, mask in enumerate(masks)]


@dataclass
class _Program:
    """``again[v, t]``: node v is computed again in stage t. ``kept[v][i]``: it is kept over its i-th gap."""

    graph: ComputationGraph
    budget: int
    model: cp_model.CpModel = field(default_factory=cp_model.CpModel)
    valid: bool = True
    """Whether every fixed-order schedule satisfies the model."""

    def __post_init__(self) -> None:
        self.stages = _Stages.of(self.graph)
        self._cut: set[tuple[int, int, bool]] = set()
        self.events = [[v, *found] for v, found in enumerate(_ancestor_stages(self.stages))]
        self.again = {
            (v, t): self.model.new_bool_var(f"again{v}:{t}")
            for v, found in enumerate(self.events)
            if self.stages.repeatable[v]
            for t in found[1:]
        }
        self.kept = [
            [self.model.new_bool_var(f"kept{v}:{t}") for t in found[:-1]] for v, found in enumerate(self.events)
        ]
        self._chain()
        for t in range(len(self.events)):
            self._feed(t, t)
            self._memory(t)
        for v, t in self.again:
            self._feed(v, t)
        self.model.minimize(sum(self.stages.durations[v] * literal for (v, _), literal in self.again.items()))

    def arrives(self, v: int, t: int) -> Any:
        """Whether v is in memory when event stage t begins."""
        return self.kept[v][bisect_left(self.events[v], t) - 1]

    def leaves(self, v: int, t: int) -> Any:
        """Whether v is in memory when stage t has ended, for any stage after its first computation."""
        i = bisect_left(self.events[v], t + 1) - 1
        return self.kept[v][i] if i < len(self.kept[v]) else 0

    def _chain(self) -> None:
        """What is kept after a stage was kept before it or is computed again in it."""
        for v, found in enumerate(self.events):
            for i in range(1, len(found) - 1):
                again = self.again.get((v, found[i]))
                self.model.add(self.kept[v][i] <= self.kept[v][i - 1] + (0 if again is None else again))

    def _feed(self, v: int, t: int) -> None:
        """A computation of v in stage t finds its operands."""
        for u in self.stages.predecessors[v]:
            again = self.again.get((u, t))
            there = self.arrives(u, t) + (0 if again is None else again)
            self.model.add(there >= (1 if v == t else self.again[v, t]))

    def _memory(self, t: int) -> None:
        """What is alive while node t is computed for the first time."""
        operands = self.stages.predecessors[t]
        own = self.stages.sizes[t] + self.stages.workspaces[t]
        room = self.budget - own - sum(self.stages.sizes[u] for u in operands)
        held = [(self.stages.sizes[v], self.leaves(v, t)) for v in range(t) if v not in operands]
        held = [(size, literal) for size, literal in held if not isinstance(literal, int)]
        if room < 0 or sum(size for size, _ in held) > room:
            self.model.add(sum(size * literal for size, literal in held) <= room)

    def cut(self, sequence: Sequence[int], loads: Sequence[int]) -> bool:
        """Adds rows for the repetitions at which a proposed schedule exceeds the budget; False where all are there."""
        place = {v: t for t, v in enumerate(self.graph.order)}
        seen: set[int] = set()
        over: list[tuple[int, int]] = []
        stage = 0
        for node, load in zip(sequence, loads, strict=True):
            if node not in seen:
                seen.add(node)
                stage += 1
            elif load > self.budget:
                over.append((place[node], stage))
        for ordered in (False, True):
            fresh = [(v, t) for v, t in dict.fromkeys(over) if (v, t, ordered) not in self._cut]
            for v, t in fresh:
                self._cut.add((v, t, ordered))
                self._row(v, t, ordered=ordered)
            if fresh:
                self.valid = self.valid and not ordered
                return True
        return False

    def _row(self, w: int, t: int, *, ordered: bool) -> None:
        """What is alive while w is computed again in stage t; ``ordered`` presumes repetitions in ascending order."""
        operands = self.stages.predecessors[w]
        terms: list[Any] = [self.stages.workspaces[w], *(self.stages.sizes[x] for x in (w, *operands))]
        for v in range(t):
            if v == w or v in operands:
                continue
            held = self._held(v, w, t, ordered=ordered)
            if held is not None:
                terms.append(self.stages.sizes[v] * held)
        self.model.add(sum(terms) <= self.budget).only_enforce_if(self.again[w, t])

    def _held(self, v: int, w: int, t: int, *, ordered: bool) -> Any:
        """A literal that is true where v is alive beside w in stage t; None where it cannot be."""
        if t not in self.events[v][1:]:
            literal = self.leaves(v, t)
            return None if isinstance(literal, int) else literal
        held = self.model.new_bool_var(f"held{v}:{w}:{t}")
        again = self.again.get((v, t), 0)
        readers = [x for x in self.stages.uses[v] if x == t or (ordered and w < x < t and (x, t) in self.again)]
        needs = [self.leaves(v, t), *(1 if x == t else self.again[x, t] for x in readers)]
        for need in needs:
            if isinstance(need, int) and not need:
                continue
            self.model.add(held >= self.arrives(v, t) + need - 1 - (0 if ordered else again))
            if ordered and v < w and not isinstance(again, int):
                self.model.add(held >= again + need - 1)
        return held

    def sequence(self, solver: cp_model.CpSolver) -> tuple[int, ...]:
        """The schedule that a solution stands for: repetitions of a stage in ascending order, then its node."""
        steps: list[list[int]] = [[] for _ in self.events]
        for (v, t), literal in self.again.items():
            if solver.boolean_value(literal):
                steps[t].append(v)
        return tuple(self.graph.order[v] for t, found in enumerate(steps) for v in (*sorted(found), t))

    def hint(self, sequence: Sequence[int]) -> None:
        """Hints a fixed-order schedule: what is repeated in which stage, and what is alive between stages."""
        place = {v: t for t, v in enumerate(self.graph.order)}
        repeated: set[tuple[int, int]] = set()
        stage = 0
        for node in sequence:
            v = place[node]
            if v == stage:
                stage += 1
            else:
                repeated.add((v, stage))
        self.model.clear_hints()  # type: ignore[no-untyped-call]
        for key, literal in self.again.items():
            self.model.add_hint(literal, key in repeated)
        needed = self._needed(repeated)
        for v, literals in enumerate(self.kept):
            for i, literal in enumerate(literals):
                self.model.add_hint(literal, (v, i) in needed)

    def _needed(self, repeated: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """The gaps over which each result is kept in a schedule: back from every read to where it was computed."""
        needed: set[tuple[int, int]] = set()
        for v, found in enumerate(self.events):
            for i in range(1, len(found)):
                t = found[i]
                read = any(w == t or (w, t) in repeated for w in self.stages.uses[v])
                k = i
                while read and k > 0 and (v, found[k]) not in repeated:
                    k -= 1
                    needed.add((v, k))
        return needed
