from __future__ import annotations

from support.schedules import training_chain

from tpopt.passes.rematerialize import Search, rematerialize, simulate
from tpopt.passes.rematerialize.moccasin import event, lengths, moccasin


def test_no_two_computations_share_an_event():
    events = [event(stage, position) for stage in range(20) for position in range(stage + 1)]
    assert len(set(events)) == len(events)


def test_lengths_are_spaced_logarithmically_up_to_the_horizon():
    found = lengths(10)
    assert (found[0], found[-1], len(found) <= 50) == (1, 61, True)


def test_a_chain_is_solved_as_published():
    chain = training_chain(5)
    found = moccasin(chain, 5, seconds=20)
    assert found is not None
    seen = simulate(chain, found)
    assert (seen.peak <= 5, tuple(dict.fromkeys(found)) == chain.order) == (True, True)
    assert seen.duration == rematerialize(chain, 5, Search("moccasin", seconds=20)).duration
