from __future__ import annotations

from support.covers import candidate, conversion, value

from tpopt.choose.candidate import Value
from tpopt.choose.essential import essential_names

GIVEN = frozenset([Value("x")])


def test_what_every_cover_computes_is_essential():
    found = [candidate("a", "x", "y"), candidate("b", "y", "z"), candidate("c", "z", "w"), candidate("bc", "y", "w")]
    assert essential_names(found, GIVEN, [value("w")]) == ("y", "w")


def test_what_a_wide_cover_passes_over_is_not():
    found = [candidate("a", "x", "y"), candidate("b", "y", "z"), candidate("ab", "x", "z")]
    assert essential_names(found, GIVEN, [value("z")]) == ("z",)


def test_a_tensor_counts_in_any_layout():
    found = [
        candidate("a", "x", "y"),
        candidate("last", "x", "y@channels_last"),
        conversion("back", "y@channels_last", "y"),
        candidate("b", "y", "z"),
    ]
    assert essential_names(found, GIVEN, [value("z")]) == ("y", "z")


def test_an_input_is_never_computed():
    assert essential_names([candidate("a", "x", "y")], GIVEN, [value("x")]) == ()
