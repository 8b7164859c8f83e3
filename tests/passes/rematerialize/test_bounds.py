from __future__ import annotations

import random

from support.pebbling import budgets, optimum, random_graph, weighted
from support.schedules import training_chain

from tpopt.backend.native.annealer import NativeAnnealer
from tpopt.passes.rematerialize import ComputationGraph, Search, rematerialize, simulate
from tpopt.passes.rematerialize.bounds import free_bound, order_bound
from tpopt.passes.rematerialize.pebbling import reach

FORK = ComputationGraph.of([5, 5, 1, 1, 1], [1] * 5, [[], [], [0], [1], [2, 3]], order=[0, 1, 2, 3, 4])


def small_graphs(count: int, seed: int) -> list[ComputationGraph]:
    chance = random.Random(seed)
    shapes = [random_graph(chance.randint(3, 7), chance) for _ in range(count)]
    return [weighted(shape, weighting, chance) for shape in shapes for weighting in ("unit", "small", "wide")]


def test_the_bound_of_a_free_order_is_never_above_the_optimum():
    for graph in small_graphs(60, seed=4):
        for budget in budgets(graph, simulate(graph, graph.order).peak)[1:]:
            best, found = optimum(graph, budget), free_bound(graph, budget, 5)
            assert best is None or (not found.infeasible and found.bound <= best), (graph, budget)


def test_the_bound_is_the_optimum_of_a_short_chain():
    chain = training_chain(4)
    assert [free_bound(chain, budget, 5).bound for budget in (5, 4)] == [8, 9] == [optimum(chain, b) for b in (5, 4)]


def test_the_search_backwards_knows_what_fits():
    for graph in small_graphs(60, seed=5):
        for budget in budgets(graph, simulate(graph, graph.order).peak):
            found = reach(graph, budget)
            assert found.infeasible == (optimum(graph, budget) is None), (graph, budget)
            assert found.sequence is None or simulate(graph, found.sequence).peak <= budget


def test_no_order_has_a_lower_peak_than_the_bound():
    for graph in small_graphs(40, seed=6):
        once = ComputationGraph.of(
            graph.sizes,
            graph.durations,
            graph.predecessors,
            repeatable=[False] * len(graph),
            workspaces=graph.workspaces,
        )
        assert optimum(once, order_bound(graph) - 1) is None


def test_a_chain_is_proved_optimal_in_any_order():
    chain = training_chain(16)
    found = rematerialize(chain, 14, Search(moves=100_000), annealer=NativeAnnealer)
    assert (found.status, found.duration, found.lower_bound) == ("optimal", 35, 35)


def test_a_result_that_must_not_repeat_is_kept():
    chain = training_chain(8)
    once = ComputationGraph.of(chain.sizes, chain.durations, chain.predecessors, repeatable=[False] * 16)
    assert order_bound(chain) == 9
    assert [free_bound(once, budget, 5).infeasible for budget in (8, 9)] == [True, False]


def test_what_no_gap_covers_has_no_bound_on_time():
    assert free_bound(FORK, 7, 5).bound == FORK.duration


def test_the_lowest_peak_of_an_order_is_proved():
    chain = training_chain(8)
    found = rematerialize(chain, None, Search("order", moves=5000), annealer=NativeAnnealer)
    assert (found.status, found.peak) == ("optimal", 9)


def test_an_order_below_the_bound_is_infeasible_at_once():
    found = rematerialize(training_chain(8), 8, Search("order", moves=5000), annealer=NativeAnnealer)
    assert (found.status, found.peak) == ("infeasible", 9)


def test_a_search_that_gives_up_claims_nothing():
    found = reach(training_chain(8), 5, most_trials=3)
    assert (found.sequence, found.infeasible) == (None, False)
