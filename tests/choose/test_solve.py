from __future__ import annotations

import random
from itertools import combinations

import pytest
from support.covers import candidate, conversion, prices, value, wide

from tpopt.choose.candidate import CHANNELS_LAST, Candidate, Price, Value
from tpopt.choose.solve import GAP, Spending, solve
from tpopt.errors import InvalidProgram

LAST = f"@{CHANNELS_LAST}"
GIVEN = frozenset([Value("x")])


EASY = 4
"""A random choice that has covers."""


def names(candidates: list[Candidate], us: dict[str, Price], *outputs: str) -> list[str]:
    return [c.name for c in solve(candidates, us, GIVEN, [value(o) for o in outputs]).picked]


def random_choice(seed: int) -> tuple[list[Candidate], dict[str, Price], list[Value]]:
    """At most thirteen candidates over four tensors: kernels in both layouts, wide ones, conversions."""
    chance = random.Random(seed)
    found = []
    for k in range(4):
        below = ["x", *(f"t{n}" for n in range(k))]
        for n in range(chance.randint(1, 2)):
            needs = {f"{chance.choice(below)}{chance.choice(['', LAST])}" for _ in range(chance.randint(1, 2))}
            found.append(candidate(f"k{k}.{n}", " ".join(sorted(needs)), f"t{k}{chance.choice(['', LAST])}"))
    chains = [(a, b) for a in found for b in found if set(a.produces) & set(b.needs)]
    for a, b in chance.sample(chains, min(1, len(chains))):
        found.append(wide(f"{a.name}+{b.name}", a, b))
    for name in ("x", "t0", "t1", "t2", "t3"):
        if chance.random() < 0.8:
            found.append(conversion(f"to.{name}", name, f"{name}{LAST}"))
        if chance.random() < 0.7:
            found.append(conversion(f"from.{name}", f"{name}{LAST}", name))
    us = {c.key: Price(float(chance.randint(0, 40))) for c in found}
    return found[:13], us, [Value("t3"), Value(chance.choice(["t1", "t2"]))]


def holds(picked: tuple[Candidate, ...], outputs: list[Value]) -> bool:
    """Whether a set of candidates is a cover, as the chooser states it."""
    kernels = [v.name for c in picked if c.kind != "layout" for v in c.produces]
    made = {v for c in picked for v in c.produces} | GIVEN
    solid = {v for c in picked if c.kind != "layout" for v in c.produces} | GIVEN
    reachable = all(v in (solid if c.kind == "layout" else made) for c in picked for v in c.needs)
    return reachable and all(v in made for v in outputs) and len(set(kernels)) == len(kernels)


@pytest.mark.parametrize("seed", range(40))
def test_no_subset_of_the_candidates_is_a_cheaper_cover(seed: int):
    found, us, outputs = random_choice(seed)
    covers = [c for n in range(len(found) + 1) for c in combinations(found, n) if holds(c, outputs)]
    if not covers:
        with pytest.raises(InvalidProgram):
            solve(found, us, GIVEN, outputs)
        return
    best = min(sum(us[c.key].us for c in cover) for cover in covers)
    solution = solve(found, us, GIVEN, outputs)
    assert best <= solution.total_us <= best * (1 + GAP)
    assert solution.optimal
    assert holds(solution.picked, outputs)


def test_the_random_choices_are_not_all_trivial():
    sizes = []
    for seed in range(40):
        found, us, outputs = random_choice(seed)
        if any(holds(c, outputs) for n in range(len(found) + 1) for c in combinations(found, n)):
            sizes.append(len(solve(found, us, GIVEN, outputs).picked))
    assert len(sizes) >= 15
    assert max(sizes) >= 4


def test_conversions_do_not_hold_each_other_up():
    there, back = conversion("there", "y", f"y{LAST}"), conversion("back", f"y{LAST}", "y")
    with pytest.raises(InvalidProgram, match="has no solution"):
        names([there, back], prices(there=1, back=1), "y")
    made = candidate("made", "x", f"y{LAST}")
    assert names([there, back, made], prices(there=1, back=1, made=50), "y") == ["back", "made"]


def test_a_wide_cover_wins_when_it_is_cheaper_than_its_parts():
    parts = [candidate("conv", "x", "y"), candidate("relu", "y", "z"), candidate("both", "x", "z")]
    assert names(parts, prices(conv=5, relu=2, both=6), "z") == ["both"]
    assert names(parts, prices(conv=5, relu=2, both=8), "z") == ["conv", "relu"]


def test_a_value_inside_a_wide_cover_is_computed_again_where_somebody_else_wants_it():
    parts = [candidate("conv", "x", "y"), candidate("relu", "y", "z"), candidate("both", "x", "z")]
    assert names(parts, prices(conv=5, relu=2, both=1), "z", "y") == ["conv", "both"]


def test_an_output_without_a_producer_is_named():
    with pytest.raises(InvalidProgram, match="no candidate produces output y@channels_last"):
        solve([candidate("made", "x", "y")], prices(made=1), GIVEN, [value(f"y{LAST}")])


def test_a_need_without_a_producer_is_no_solution():
    with pytest.raises(InvalidProgram, match="a needed value has no producer"):
        solve([candidate("made", "nobody", "y")], prices(made=1), GIVEN, [value("y")])


def test_an_output_that_is_given_needs_nothing():
    solution = solve([candidate("made", "x", "y")], prices(made=1), GIVEN, [value("x")])
    assert (solution.picked, solution.total_us) == ((), 0)


def test_what_costs_nothing_is_not_picked_unless_it_is_needed():
    idle = candidate("idle", "x", "w")
    assert names([candidate("made", "x", "y"), idle], prices(made=1, idle=0), "y") == ["made"]


def test_the_original_enters_three_percent_cheaper_than_it_measured():
    both = [candidate("plain", "x", "y", "original"), candidate("quick", "x", "y", "onednn")]
    measured = {"plain": Price(100.0, measured=True), "quick": Price(98.0, measured=True)}
    assert names(both, measured, "y") == ["plain"]
    assert names(both, measured | {"quick": Price(96.0, measured=True)}, "y") == ["quick"]
    assert names(both, prices(plain=100, quick=98), "y") == ["quick"]


def test_the_same_question_has_the_same_answer():
    found, us, outputs = random_choice(EASY)
    tied = {key: Price(10.0) for key in us}
    answers = {tuple(c.name for c in solve(found, tied, GIVEN, outputs).picked) for _ in range(3)}
    assert len(answers) == 1


def test_a_budget_bounds_what_is_picked():
    both = [candidate("quick", "x", "y"), candidate("slow", "x", "y"), candidate("rest", "y", "z")]
    us = prices(quick=1, slow=9, rest=1)

    def within(limit: int) -> list[str]:
        spending = Spending({"quick": 5, "rest": 2}, limit)
        return [c.name for c in solve(both, us, GIVEN, [value("z")], [spending]).picked]

    assert (within(7), within(6)) == (["quick", "rest"], ["slow", "rest"])
    with pytest.raises(InvalidProgram, match="no solution"):
        within(1)


def test_a_circle_that_two_forms_of_a_program_close_is_cut():
    forms = [candidate("a from b", "b", "a"), candidate("b from a", "a", "b"), candidate("b from x", "x", "b")]
    assert names(forms, prices(**{"a from b": 1, "b from a": 1, "b from x": 50}), "a") == ["a from b", "b from x"]
    with pytest.raises(InvalidProgram, match="no solution"):
        names(forms[:2], prices(**{"a from b": 1, "b from a": 1}), "a")
