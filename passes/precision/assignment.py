"""Which precision each layer gets: least predicted loss within budgets, by an integer program, with proof.

The predicted increase of the loss is a quadratic form of the layers' choices: a term for each layer (``trace_i *
||Q_b(W_i) - W_i||^2`` in HAWQ-V2 and -V3, or the exact ``g.d + d.H.d / 2``), and where it is known a term for each pair
of choices, ``d_i.H.d_j`` (inter-layer dependencies). Budgets are linear in the choices; groups of layers share theirs.

Sources: Dong et al., "HAWQ-V2", NeurIPS 2020 (the metric, and settings in the order of the traces); Yao et al.,
"HAWQ-V3", ICML 2021 (the integer program); Schaefer et al., "Mixed Precision Post Training Quantization of Neural
Networks with Sensitivity Guided Search and Inter-Layer Dependencies", 2023 (pairs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from tpopt.errors import LimitExceeded, UsageError

Status = Literal["optimal", "feasible"]
Ending = Literal["optimal", "feasible", "infeasible", "unknown"]
Floats = npt.NDArray[np.float64]

SLACK: Final = 1e-9
"""Share of a budget by which rounding may exceed it."""
SCALED: Final = 1e6
"""What all of a resource counts as: the solver keeps constraints to one part in 10^6."""
SECONDS: Final = 60.0
INFEASIBLE: Final = 2
"""The solver's status where no solution exists."""


@dataclass(frozen=True)
class Resource:
    """What choices cost, ``[layer][choice]``, and how much there is."""

    name: str
    costs: tuple[tuple[float, ...], ...]
    limit: float


@dataclass(frozen=True)
class Problem:
    """One choice for each layer.

    Attributes:
        losses: predicted increase of the loss, ``[layer][choice]``; layers may have different numbers of choices.
        resources: the budgets.
        groups: layers, by number, that make the same choice (its number, that is).
        pairs: increase that two choices make together, besides their own: ``(layer, choice, layer, choice)``.
        forbidden: pairs of choices that exclude each other, in the same form.
    """

    losses: tuple[tuple[float, ...], ...]
    resources: tuple[Resource, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    pairs: Mapping[tuple[int, int, int, int], float] = field(default_factory=dict)
    forbidden: frozenset[tuple[int, int, int, int]] = frozenset()

    def __post_init__(self) -> None:
        """Checks that shapes and numbers fit together. Raises :class:`UsageError` naming what does not."""
        shape = [len(row) for row in self.losses]
        if not shape or min(shape) < 1:
            raise UsageError("losses: expected at least one layer with at least one choice each")
        for resource in self.resources:
            if [len(row) for row in resource.costs] != shape:
                raise UsageError(f"resource {resource.name}: its costs have not the layers and choices of the losses")
            if not all(np.isfinite(c) and c >= 0 for row in resource.costs for c in row):
                raise UsageError(f"resource {resource.name}: a cost is negative or not finite")
        if not all(np.isfinite(v) for row in self.losses for v in row):
            raise UsageError("losses: a predicted loss is not finite")
        for group in self.groups:
            if any(not 0 <= k < len(shape) for k in group) or len({shape[k] for k in group}) > 1:
                raise UsageError(f"groups: {group} names a layer that is not there, or layers of unequal choices")
        for i, a, j, b in (*self.pairs, *self.forbidden):
            if not (0 <= i < len(shape) and 0 <= j < len(shape) and i != j and a < shape[i] and b < shape[j]):
                raise UsageError(f"pairs: ({i}, {a}, {j}, {b}) is no pair of choices of two layers")

    def loss(self, choices: Sequence[int]) -> float:
        """The predicted increase of an assignment."""
        own = sum(row[c] for row, c in zip(self.losses, choices, strict=True))
        return own + sum(v for (i, a, j, b), v in self.pairs.items() if choices[i] == a and choices[j] == b)

    def cost(self, resource: Resource, choices: Sequence[int]) -> float:
        """What an assignment takes of a resource."""
        return sum(row[c] for row, c in zip(resource.costs, choices, strict=True))

    def admits(self, choices: Sequence[int]) -> bool:
        """Whether an assignment is within all budgets, groups and pairs."""
        within = all(self.cost(r, choices) <= r.limit * (1 + SLACK) for r in self.resources)
        equal = all(len({choices[k] for k in group}) <= 1 for group in self.groups)
        return within and equal and not any(choices[i] == a and choices[j] == b for i, a, j, b in self.forbidden)


@dataclass(frozen=True)
class Assignment:
    """Choices by layer, their predicted loss, and whether no better ones exist."""

    choices: tuple[int, ...]
    loss: float
    status: Status


def assign(problem: Problem, seconds: float = SECONDS) -> Assignment:
    """The assignment of least loss.

    Raises :class:`~tpopt.errors.LimitExceeded` where no assignment is within the budgets: the message names the least
    that each budget has to be, the others being what they are.
    """
    choices, status = _Program(problem).least_loss(seconds)
    if choices is None and status == "unknown":
        raise LimitExceeded(f"no assignment was found in {seconds:g} s, and none is ruled out; give it more time")
    if choices is None:
        raise LimitExceeded(_infeasible(problem))
    if not problem.admits(choices):  # by less than the solver's tolerance
        raise LimitExceeded(f"the best assignment exceeds a budget by rounding; {_infeasible(problem)}")
    return Assignment(choices, problem.loss(choices), "optimal" if status == "optimal" else "feasible")


class _Program:
    """The mixed-integer program of a problem: a column for each choice, one for each pair of them."""

    def __init__(self, problem: Problem, without: str | None = None) -> None:
        self.problem = problem
        self.first = np.cumsum([0, *(len(row) for row in problem.losses)])
        self.columns = int(self.first[-1]) + len(problem.pairs)
        self.rows: list[tuple[dict[int, float], float, float]] = []
        for k, row in enumerate(problem.losses):
            self._row({self._at(k, c): 1.0 for c in range(len(row))}, 1.0, 1.0)
        for group in problem.groups:
            for one, other in pairwise(group):
                for c in range(len(problem.losses[one])):
                    self._row({self._at(one, c): 1.0, self._at(other, c): -1.0}, 0.0, 0.0)
        for i, a, j, b in problem.forbidden:
            self._row({self._at(i, a): 1.0, self._at(j, b): 1.0}, -np.inf, 1.0)
        products: dict[tuple[int, int], dict[tuple[int, int], int]] = {}
        for number, (i, a, j, b) in enumerate(problem.pairs):
            products.setdefault((i, j), {})[a, b] = int(self.first[-1]) + number
        for (i, j), columns in products.items():
            whole = len(columns) == len(problem.losses[i]) * len(problem.losses[j])
            (self._all_products if whole else self._products)(i, j, columns)
        for resource in problem.resources:
            if resource.name != without:
                self._within(resource)

    def _at(self, layer: int, choice: int) -> int:
        return int(self.first[layer]) + choice

    def _row(self, entries: dict[int, float], low: float, high: float) -> None:
        self.rows.append((entries, low, high))

    def _products(self, i: int, j: int, columns: Mapping[tuple[int, int], int]) -> None:
        """A column for two choices is 1 where both are made, 0 elsewhere."""
        for (a, b), both in columns.items():
            one, other = self._at(i, a), self._at(j, b)
            self._row({both: 1.0, one: -1.0}, -np.inf, 0.0)
            self._row({both: 1.0, other: -1.0}, -np.inf, 0.0)
            self._row({both: -1.0, one: 1.0, other: 1.0}, -np.inf, 1.0)

    def _all_products(self, i: int, j: int, columns: Mapping[tuple[int, int], int]) -> None:
        """The same where all of two layers' pairs have columns: those of one choice sum up to it.

        Bounds are far tighter so (Adams and Sherali, 1986): of 14 layers in 5 precisions, 0.2 s instead of 36.
        """
        for a in range(len(self.problem.losses[i])):
            own = {columns[a, b]: 1.0 for b in range(len(self.problem.losses[j]))}
            self._row({**own, self._at(i, a): -1.0}, 0.0, 0.0)
        for b in range(len(self.problem.losses[j])):
            own = {columns[a, b]: 1.0 for a in range(len(self.problem.losses[i]))}
            self._row({**own, self._at(j, b): -1.0}, 0.0, 0.0)

    def _within(self, resource: Resource) -> None:
        """Whole numbers as they are, with half of one to spare; others so that the solver's tolerance is no matter."""
        costs = {self._at(k, c): v for k, row in enumerate(resource.costs) for c, v in enumerate(row)}
        whole = all(float(v).is_integer() for v in costs.values())
        if whole:
            return self._row(costs, -np.inf, np.floor(resource.limit * (1 + SLACK)) + 0.5)
        scale = SCALED / max(sum(map(max, resource.costs)), 1e-300)
        return self._row({k: v * scale for k, v in costs.items()}, -np.inf, resource.limit * scale * (1 + SLACK))

    def least_loss(self, seconds: float) -> tuple[tuple[int, ...] | None, Ending]:
        """The best choices, and whether they are proved to be that; what all choices of a layer have is left out."""
        problem = self.problem
        own = [v - min(row) for row in problem.losses for v in row]
        return self._solve(np.array(own + list(problem.pairs.values())), seconds)

    def least_cost(self, resource: Resource) -> float | None:
        """The least that choices take of a resource; ``None`` where the other constraints admit none at all."""
        objective = np.zeros(self.columns)
        objective[: self.first[-1]] = [v for row in resource.costs for v in row]
        choices, _ = self._solve(objective, SECONDS)
        return None if choices is None else self.problem.cost(resource, choices)

    def _solve(self, objective: Floats, seconds: float) -> tuple[tuple[int, ...] | None, Ending]:
        entries = [(r, c, v) for r, (row, _, _) in enumerate(self.rows) for c, v in row.items()]
        at, values = ([e[0] for e in entries], [e[1] for e in entries]), [e[2] for e in entries]
        matrix = csr_array((values, at), shape=(len(self.rows), self.columns))
        bounds = ([low for _, low, _ in self.rows], [high for _, _, high in self.rows])
        found = milp(
            objective * (SCALED / max(float(np.abs(objective).max()), 1e-300)),  # far above the solver's absolute gap
            constraints=LinearConstraint(matrix, *bounds),
            integrality=np.arange(self.columns) < self.first[-1],  # choices settle what their pairs are
            bounds=Bounds(0, 1),
            options={"time_limit": seconds, "mip_rel_gap": 0.0},
        )
        if found.x is None:
            return None, "infeasible" if found.status == INFEASIBLE else "unknown"
        ranges = pairwise(self.first)
        picked = tuple(int(np.argmax(found.x[low:high])) for low, high in ranges)
        return picked, "optimal" if found.status == 0 else "feasible"


def _infeasible(problem: Problem) -> str:
    """Why no assignment is within the budgets, and which value would admit one."""
    found = []
    for resource in problem.resources:
        least = _Program(problem, without=resource.name).least_cost(resource)
        if least is not None:
            found.append(f"{resource.name} of at least {least:.6g} (it is {resource.limit:.6g})")
    if found:
        return f"no assignment is within the budgets; feasible with {' or with '.join(found)}, the others as they are"
    return "no assignment is within the budgets, groups and forbidden pairs, whatever one of the budgets is"


def monotone(problem: Problem, traces: Sequence[float]) -> Assignment:
    """The best assignment among those in the order of the traces (HAWQ-V2): a less sensitive layer never gets more.

    ``traces`` are the layers' mean Hessian traces; choices are in the order of rising precision. There are
    ``C(layers + choices - 1, choices - 1)`` such assignments, and all are looked at. Pairs count, too.
    """
    width = len(problem.losses[0])
    if len(traces) != len(problem.losses) or any(len(row) != width for row in problem.losses):
        raise UsageError("monotone: expected one trace for each layer, and as many choices for each")
    order = sorted(range(len(traces)), key=lambda k: traces[k])
    best: tuple[float, tuple[int, ...]] | None = None
    for levels in combinations_with_replacement(range(width), len(order)):
        choices = [0] * len(order)
        for layer, level in zip(order, levels, strict=True):
            choices[layer] = level
        if problem.admits(choices) and (best is None or problem.loss(choices) < best[0]):
            best = (problem.loss(choices), tuple(choices))
    if best is None:
        raise LimitExceeded(f"no assignment in the order of the traces is admitted: {_infeasible(problem)}")
    return Assignment(best[1], best[0], "optimal")


def pareto(problem: Problem, resource: str, points: int = 20) -> Iterator[tuple[float, Assignment]]:
    """The best assignment at evenly spaced limits of one resource, between the least there can be and the most.

    Yields each limit at which the loss improves, from the smallest on.
    """
    own = next((r for r in problem.resources if r.name == resource), None)
    if own is None:
        raise UsageError(f"pareto: no resource is called {resource!r}")
    low = _Program(problem, without=resource).least_cost(own)
    if low is None:
        raise LimitExceeded(_infeasible(problem))
    high = sum(max(row) for row in own.costs)
    last = float("inf")
    for limit in np.linspace(low, high, points):
        resources = tuple(Resource(r.name, r.costs, float(limit)) if r is own else r for r in problem.resources)
        found = assign(Problem(problem.losses, resources, problem.groups, problem.pairs, problem.forbidden))
        if found.loss < last:
            last = found.loss
            yield float(limit), found
