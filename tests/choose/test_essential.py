from __future__ import annotations

from support.covers import candidate, conversion, value, wide

from tpopt.choose.candidate import Candidate, Value
from tpopt.choose.essential import essential_groups

GIVEN = frozenset([Value("x")])


def groups(found: list[Candidate], *outputs: str) -> list[set[str]]:
    return [{found[k].name for k in group} for group in essential_groups(found, GIVEN, [value(o) for o in outputs])]


def test_what_every_cover_computes_is_essential():
    found = [candidate("a", "x", "y"), candidate("b", "y", "z"), candidate("c", "z", "w"), candidate("bc", "y", "w")]
    assert groups(found, "w") == [{"a"}, {"c", "bc"}]


def test_what_a_wide_cover_computes_inside_counts():
    first, second = candidate("a", "x", "y"), candidate("b", "y", "z")
    found = [first, second, wide("ab", first, second)]
    assert groups(found, "z") == [{"a", "ab"}, {"b", "ab"}]


def test_what_a_wide_cover_passes_over_is_not():
    found = [candidate("a", "x", "y"), candidate("b", "y", "z"), candidate("ab", "x", "z")]
    assert groups(found, "z") == [{"b", "ab"}]


def test_a_tensor_counts_in_any_layout():
    found = [
        candidate("a", "x", "y"),
        candidate("last", "x", "y@channels_last"),
        conversion("back", "y@channels_last", "y"),
        candidate("b", "y", "z"),
    ]
    assert groups(found, "z") == [{"a", "last"}, {"b"}]


def test_an_input_is_never_computed():
    assert groups([candidate("a", "x", "y")], "x") == []
