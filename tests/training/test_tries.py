"""Schedules are looked for again where the first does not keep the budget at the level of storages."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tpopt.errors import LimitExceeded
from tpopt.passes.rematerialize import ComputationGraph, Search
from tpopt.passes.rematerialize.schedule import Schedule, Status
from tpopt.training import plan
from tpopt.training.operations import Operations

SEARCH = Search(moves=10_000, seed=3)


@pytest.fixture(scope="module")
def operations() -> Operations:
    """A chain of ten operators on 4 KiB."""
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    for _ in range(10):
        node = graph.call_function(torch.ops.aten.sin.default, (node,))
        node.meta["val"] = torch.empty(1024)
    graph.output((node,))
    return Operations.of(graph)


class Solver:
    """Answers with the statuses that it was given, and never with a schedule of less than 8 KiB."""

    def __init__(self, *statuses: Status) -> None:
        self.statuses = list(statuses)
        self.limits: list[int] = []
        self.seeds: list[int] = []

    def __call__(self, graph: ComputationGraph, limit: int, search: Search, **_: Any) -> Schedule:
        self.limits.append(limit)
        self.seeds.append(search.seed)
        return Schedule(graph, limit, graph.order, 8192, 10, 10, self.statuses.pop(0), 0.1)


@pytest.mark.parametrize(
    ("statuses", "limits"),
    [
        (("infeasible",), [8000]),
        (("unknown", "unknown"), [8000, 8000]),
        (("feasible", "infeasible", "unknown", *["feasible"] * 3), [8000, 7616, 7808, 7904, 7520, 7136]),
    ],
    ids=["proved", "not found twice", "not found with less"],
)
def test_limits_go_down_by_what_was_too_much_and_up_where_nothing_was_found(
    statuses: tuple[Status, ...], limits: list[int], operations: Operations, monkeypatch: pytest.MonkeyPatch
):
    solver = Solver(*statuses)
    monkeypatch.setattr(plan, "rematerialize", solver)
    with pytest.raises(LimitExceeded, match=r"memory_budget 0\.01 MiB: no order of the step within it was found"):
        plan.plan_step(operations, 8000, SEARCH, annealer=None)
    assert solver.limits == limits
    assert solver.seeds == list(range(3, 3 + len(limits)))


def test_a_schedule_that_keeps_the_budget_is_the_last(operations: Operations, monkeypatch: pytest.MonkeyPatch):
    solver = Solver("feasible", "unknown")
    monkeypatch.setattr(plan, "rematerialize", solver)
    found = plan.plan_step(operations, 8192, SEARCH, annealer=None)
    assert (found.peak, solver.limits) == (8192, [8192])
