from __future__ import annotations

import pytest
from support.schedules import training_chain

from tpopt.errors import InvalidProgram
from tpopt.passes.rematerialize import ComputationGraph, simulate


def test_a_copy_lives_to_its_last_consumer_before_the_next_copy():
    graph = ComputationGraph.of([1, 10, 100], [1, 2, 4], [[], [0], [0, 1]])
    assert simulate(graph, (0, 1, 2)).loads == (1, 11, 111)
    again = simulate(graph, (0, 1, 0, 2))
    assert (again.loads, again.peak, again.duration) == ((1, 11, 11, 111), 111, 8)


def test_what_nobody_consumes_lives_during_its_own_step():
    assert simulate(ComputationGraph.of([1, 10, 100], [1] * 3, [[], [], [0]]), (0, 1, 2)).loads == (1, 11, 101)


def test_a_training_chain_keeps_everything_until_it_turns_back():
    assert simulate(training_chain(3), range(6)).loads == (1, 2, 3, 4, 4, 3)


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        ((1, 0, 2), "step 0 computes '1' before '0', which it needs"),
        ((0, 1, 1, 2), "step 2 computes '1' again, which must happen once"),
        ((0, 1), "the schedule never computes '2'"),
    ],
)
def test_what_is_no_schedule_is_refused(sequence: tuple[int, ...], reason: str):
    graph = ComputationGraph.of([1] * 3, [1] * 3, [[], [0], [0]], repeatable=[True, False, True])
    with pytest.raises(InvalidProgram, match=reason):
        simulate(graph, sequence)
