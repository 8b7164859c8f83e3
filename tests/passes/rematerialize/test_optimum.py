"""Every solver against exhaustive search on small graphs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from support.pebbling import all_graphs, budgets, optimum, random_graph, weighted

from tpopt.backend.native.annealer import NativeAnnealer
from tpopt.passes.rematerialize import ComputationGraph, Search, rematerialize, simulate
from tpopt.passes.rematerialize.fixed_order import gap_bound, solve_fixed

WEIGHTINGS = ("unit", "small", "wide")
MOVES = 200_000


def cases(graphs: list[list[list[int]]], seed: int) -> Iterator[tuple[ComputationGraph, int]]:
    chance = random.Random(seed)
    for predecessors in graphs:
        for weighting in WEIGHTINGS:
            graph = weighted(predecessors, weighting, chance)
            for budget in budgets(graph, simulate(graph, graph.order).peak):
                yield graph, budget


def differs(graph: ComputationGraph, budget: int) -> list[str]:
    """What is wrong with the answer of the free order; nothing where it is the optimum."""
    best = optimum(graph, budget)
    found = rematerialize(graph, budget, Search("free", moves=MOVES, threads=1), annealer=NativeAnnealer)
    wrong = []
    if best is None and (found.peak <= budget or found.status not in {"infeasible", "unknown"}):
        wrong.append(f"nothing fits, and it found {found}")
    if best is not None and (found.peak > budget or found.duration != best or found.lower_bound > best):
        wrong.append(f"{best} is the optimum, and it found {found}")
    return wrong


def random_graphs(count: int, most: int, seed: int) -> list[list[list[int]]]:
    chance = random.Random(seed)
    return [random_graph(chance.randint(3, most), chance) for _ in range(count)]


def test_free_order_is_optimal_on_all_graphs_of_four_nodes():
    assert [w for g, b in cases(list(all_graphs(4)), 0) for w in differs(g, b)] == []


def test_free_order_is_optimal_on_random_graphs():
    assert [w for g, b in cases(random_graphs(25, 8, seed=1), 1) for w in differs(g, b)] == []


@pytest.mark.acceptance
@pytest.mark.parametrize("n", [5, 6])
def test_free_order_is_optimal_on_all_graphs(n: int):
    assert [w for g, b in cases(list(all_graphs(n)), n) for w in differs(g, b)] == []


@pytest.mark.acceptance
def test_free_order_is_optimal_on_two_thousand_random_graphs():
    assert [w for g, b in cases(random_graphs(2000, 8, seed=2), 2) for w in differs(g, b)] == []


def test_bounds_and_proofs_of_a_fixed_order_hold():
    for graph, budget in cases(random_graphs(20, 7, seed=3), 3):
        best = optimum(graph, budget, fixed_order=True)
        if graph.structural_bound > budget:
            continue
        gap = gap_bound(graph, budget, 5)
        answer = solve_fixed(graph, budget, graph.order, 5, workers=1)
        for found in (gap, answer):
            assert (best is None) or (not found.infeasible and found.bound <= best), (graph, budget)
        assert best is not None or answer.sequence is None
        if answer.sequence is not None:
            seen = simulate(graph, answer.sequence)
            assert seen.peak <= budget
            assert seen.duration >= (best or 0)


def test_there_are_as_many_graphs_as_there_should_be():
    assert [sum(1 for _ in all_graphs(n)) for n in range(1, 6)] == [1, 2, 6, 31, 302]  # OEIS A003087
