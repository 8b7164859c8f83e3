from __future__ import annotations

import pytest

from tpopt.backend.native.annealer import NativeAnnealer
from tpopt.passes.rematerialize import Search, budget_in_bytes, rematerialize, simulate
from tpopt.passes.rematerialize.layered import layered_graph


@pytest.mark.parametrize("nodes", [4, 100, 1000])
def test_a_layered_graph_has_the_size_and_the_density_of_the_published_ones(nodes: int):
    graph = layered_graph(nodes, seed=1)
    assert (len(graph), next(v for v in range(nodes) if not graph.predecessors[v])) == (nodes, 0)
    assert nodes < 100 or 2 <= graph.edges / nodes <= 8


def test_a_seed_gives_one_graph():
    assert layered_graph(100, 5) == layered_graph(100, 5)
    assert layered_graph(100, 5) != layered_graph(100, 6)


def test_a_layered_graph_keeps_eighty_percent():
    graph = layered_graph(100, seed=2)
    budget = budget_in_bytes(graph, 0.8)
    found = rematerialize(graph, budget, Search(moves=1_000_000), annealer=NativeAnnealer)
    assert simulate(graph, found.sequence).peak <= budget


@pytest.mark.acceptance
@pytest.mark.parametrize("part", [0.9, 0.8, 0.7])
def test_twenty_layered_graphs_keep_their_budgets(part: float):
    met = 0
    for seed in range(20):
        graph = layered_graph((100, 250, 500, 1000, 2000)[seed % 5], seed)
        budget = budget_in_bytes(graph, part)
        found = rematerialize(graph, budget, Search(seconds=30), annealer=NativeAnnealer)
        met += found.status in {"optimal", "feasible", "infeasible"}
        assert found.status != "optimal" or simulate(graph, found.sequence).peak <= budget
    assert met >= 19
