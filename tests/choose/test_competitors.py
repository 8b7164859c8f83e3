from __future__ import annotations

from support.covers import candidate, conversion

from tpopt.choose.candidate import Candidate
from tpopt.choose.competitors import competitors


def groups(*found: Candidate) -> list[list[str]]:
    return [[c.name for c in group] for group in competitors(found, {})]


def test_candidates_for_one_value_compete_after_what_they_need():
    late = candidate("c", "y", "z")
    found = groups(late, candidate("a", "x", "y"), candidate("b", "x", "y"), candidate("c2", "x", "z"))
    assert found == [["a", "b"], ["c", "c2"]]


def test_a_value_that_is_made_beside_another_waits_for_its_maker():
    assert groups(candidate("d", "s", "w"), candidate("ab", "x", "y s")) == [["ab"], ["d"]]


def test_one_that_widens_a_value_stands_alone():
    found = [candidate("c", "n", "y"), candidate("a", "x", "y"), candidate("b", "x", "n")]
    assert [[c.name for c in g] for g in competitors(found, {"n": "y"})] == [["a"], ["b"], ["c"]]


def test_forms_that_need_each_other_in_a_circle_are_split_where_they_can_run():
    found = groups(
        candidate("y1", "x", "y"), candidate("y2", "z", "y"), candidate("z1", "y", "z"), candidate("z2", "x", "z s"),
        candidate("w", "s", "w"),
    )  # fmt: skip
    assert found == [["y1"], ["z1", "z2"], ["w"], ["y2"]]


def test_what_nobody_can_run_is_left_to_be_refused():
    assert groups(candidate("a", "b", "a"), candidate("b", "a", "b")) == [["a"], ["b"]]


def test_an_input_is_there_whatever_converts_it():
    found = [
        conversion("to", "x", "x@channels_last"), conversion("from", "x@channels_last", "x"),
        candidate("n", "x", "x.bf16"), candidate("w", "x.bf16", "x"),
        candidate("a", "x@channels_last", "y"), candidate("b", "x.bf16", "z"),
    ]  # fmt: skip
    groups = [[c.name for c in g] for g in competitors(found, {"x.bf16": "x"})]
    assert groups == [["to", "from"], ["n"], ["w"], ["a"], ["b"]]
