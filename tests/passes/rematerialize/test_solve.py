from __future__ import annotations

import time

import pytest
from support.schedules import crowded, training_blocks, training_chain

from tpopt.backend.native.annealer import SLOTS_PER_NODE, SPARE_SLOTS, NativeAnnealer
from tpopt.errors import UsageError
from tpopt.passes.rematerialize import (
    ComputationGraph,
    Mode,
    Schedule,
    Search,
    budget_in_bytes,
    rematerialize,
    simulate,
)
from tpopt.passes.rematerialize.annealing import Clock, Pace, Scaled
from tpopt.protocols import MOST_COMPUTATIONS, Annealer, Moves

CHAIN = training_chain(16)


def solved(budget: int | None, mode: Mode = "free", moves: int = 200_000, seed: int = 0) -> Schedule:
    return rematerialize(CHAIN, budget, Search(mode, moves=moves, seed=seed, threads=2), annealer=NativeAnnealer)


@pytest.mark.parametrize("mode", ["free", "fixed"])
def test_a_chain_fits_into_the_square_root_of_its_length(mode: Mode):
    found = solved(8, mode)
    assert (found.peak <= 8, found.status in {"optimal", "feasible"}) == (True, True)
    assert found.duration < CHAIN.duration + 16  # checkpointing every fourth layer repeats 12


def test_less_memory_never_takes_less_time():
    extra = [solved(budget).duration for budget in (17, 14, 11, 9, 8)]
    assert extra == sorted(extra)
    assert extra[0] == CHAIN.duration


def test_the_same_seed_and_moves_give_the_same_schedule():
    assert solved(8, seed=3).sequence == solved(8, seed=3).sequence


def test_a_budget_below_the_structural_bound_is_infeasible_at_once():
    found = solved(2)
    assert (found.status, found.graph.structural_bound) == ("infeasible", 3)


def test_a_fixed_order_is_proved_optimal():
    found = solved(14, "fixed")
    assert (found.status, found.lower_bound) == ("optimal", found.duration)


def test_first_computations_keep_the_input_order_where_it_is_fixed():
    found = solved(9, "fixed")
    assert tuple(dict.fromkeys(found.sequence)) == CHAIN.order


def test_the_order_alone_repeats_nothing():
    graph = ComputationGraph.of([5, 5, 1, 1, 1], [1] * 5, [[], [], [0], [1], [2, 3]], order=[0, 1, 2, 3, 4])
    found = rematerialize(graph, None, Search("order", moves=5000), annealer=NativeAnnealer)
    assert (simulate(graph, graph.order).peak, found.peak, len(found.sequence)) == (11, 7, 5)


def test_what_must_not_repeat_does_not():
    graph = ComputationGraph.of(
        CHAIN.sizes, CHAIN.durations, CHAIN.predecessors, repeatable=[v % 2 == 0 for v in range(32)]
    )
    found = rematerialize(graph, 12, Search(moves=100_000), annealer=NativeAnnealer)
    assert (found.peak, all(found.sequence.count(v) == 1 for v in range(1, 32, 2))) == (12, True)


def test_ctrl_c_keeps_the_best_so_far():
    def stop(stage: str, part: float) -> None:
        if stage.startswith("annealing, round 2"):
            raise KeyboardInterrupt

    found = rematerialize(CHAIN, 8, Search(moves=200_000), annealer=NativeAnnealer, progress=stop)
    assert simulate(CHAIN, found.sequence).peak == found.peak < 17


def test_without_an_annealer_the_constraint_program_answers():
    assert rematerialize(CHAIN, 12, Search("fixed", 10)).status == "optimal"


def test_a_free_order_is_never_worse_than_the_input_order():
    fixed = rematerialize(CHAIN, 8, Search("fixed", 10))
    free = rematerialize(CHAIN, 8, Search("free", 4))
    assert fixed.status == "optimal"
    assert free.peak <= 8
    assert free.extra_time_percent <= fixed.extra_time_percent


def test_a_schedule_may_be_too_long_to_anneal():
    chain = training_chain(24)
    found = rematerialize(chain, chain.structural_bound, Search("free", 6), annealer=NativeAnnealer)
    assert found.peak == chain.structural_bound
    assert len(found.sequence) > 5 * len(chain.sizes)


def test_large_sizes_are_rounded_up_to_a_unit():
    scaled = Scaled.of(ComputationGraph.of([3 << 40, (1 << 40) + 1], [1, 1], [[], [0]]))
    assert scaled.unit * scaled.arrays.sizes[1] > 1 << 40
    assert sum(scaled.arrays.sizes) <= (1 << 30) + 2


def test_the_lowest_peak_is_asked_of_the_order_alone():
    with pytest.raises(UsageError, match="only the mode 'order' looks for the lowest peak"):
        solved(None, "free")


def test_a_search_has_time():
    with pytest.raises(UsageError, match="seconds, moves and threads must be positive"):
        Search(seconds=0)


def test_the_native_annealer_is_an_annealer():
    assert isinstance(NativeAnnealer(Scaled.of(CHAIN).arrays, keep_first=False, seed=0), Annealer)


@pytest.mark.parametrize(
    ("sequence", "step"),
    [
        ((0, *[1] * (MOST_COMPUTATIONS + 1)), MOST_COMPUTATIONS + 1),
        ((1, 0), 0),
        ((0, len(CHAIN)), 1),
        ((0, -1), 1),
        (CHAIN.order * 6, (SLOTS_PER_NODE * len(CHAIN) + SPARE_SLOTS) // 2),
    ],
    ids=["a node too often", "before an operand", "no node", "a negative node", "too many steps"],
)
def test_the_native_annealer_takes_schedules_alone(sequence: tuple[int, ...], step: int):
    annealer = NativeAnnealer(Scaled.of(CHAIN).arrays, keep_first=False, seed=0)
    with pytest.raises(ValueError, match=f"^step {step} of the schedule, node"):
        annealer.load(sequence, 8)
    assert annealer.run(Moves(1000, 0.5, 0.005, 0.3, (1, 0.3, 0.15, 0.1, 0.1))) == 0
    assert annealer.best()[0] == ()


@pytest.mark.parametrize("mode", ["free", "fixed"])
def test_a_node_that_is_computed_more_often_than_annealers_hold(mode: Mode):
    graph = crowded(MOST_COMPUTATIONS + 4)
    found = rematerialize(graph, 100, Search(mode, seconds=2.0), annealer=NativeAnnealer)
    assert (found.status, found.peak) == ("optimal", 80)
    assert found.sequence.count(0) >= MOST_COMPUTATIONS + 4


@pytest.mark.acceptance
@pytest.mark.parametrize(("part", "within"), [(0.5, 2.0), (0.1, 2.0)])
def test_ten_thousand_nodes_of_repeated_blocks_are_near_their_bound(part: float, within: float):
    graph = training_blocks(450)
    budget = budget_in_bytes(graph, part)
    found = rematerialize(graph, budget, Search(seconds=60), annealer=NativeAnnealer)
    assert (len(graph), found.peak <= budget) == (9901, True)
    assert found.extra_time_percent - found.lower_bound_percent < within


@pytest.mark.serial
def test_the_annealer_makes_half_a_million_moves_a_second():
    annealer = NativeAnnealer(Scaled.of(training_chain(500)).arrays, keep_first=False, seed=0)
    annealer.load(range(1000), 300)
    started = time.perf_counter()
    annealer.run(Moves(500_000, 0.5, 0.005, 0.3, (1, 0.3, 0.15, 0.1, 0.1)))
    assert time.perf_counter() - started < 1.0


def test_a_round_that_ends_early_says_little_of_the_speed():
    pace = Pace(Clock(10.0), moves_per_second=1000)
    with pace.round(1.0) as count:
        assert count > 5000
    assert pace.moves_per_second == 2000
