"""Transposed convolutions as plain ones compute what they did, over a finite field."""

from __future__ import annotations

import pytest
from support.sliding import CASES, image, program

from tpopt.ir import Builder, Compute, Program, Select, postorder
from tpopt.passes.derive.derivation import Derivation, Step
from tpopt.passes.derive.form import fragment_of
from tpopt.passes.derive.join_phases import Joined, JoinPhases
from tpopt.rewrite import Numerics, Refusal
from tpopt.verify.replay import replay

PHASED = [name for name in CASES if name.startswith("transposed") and "no stride" not in name]


def joined(given: Program) -> Joined | Refusal:
    (stage,) = given.stages
    assert isinstance(stage, Compute)
    return JoinPhases().run(given, stage, Builder(given.tensors))


@pytest.mark.parametrize("name", PHASED)
def test_every_element_is_equal_over_the_field(name: str):
    given = CASES[name]
    made = joined(given)
    assert isinstance(made, Joined), str(made)
    (stage,) = given.stages
    assert isinstance(stage, Compute)
    after = fragment_of(given, made.stages, stage.outs)
    before = fragment_of(given, (stage,), stage.outs)
    derivation = Derivation(stage, before, (Step("JoinPhases", Numerics.EXACT, "", after),), 1.0, 2.0)
    verdict = replay(derivation.certificate())
    assert verdict.passed, str(verdict)
    assert all(s.elements for s in verdict.steps)


def test_the_sum_is_a_plain_convolution():
    """No division or remainder is left but in the weight, which is evaluated once, and where the result is read."""
    made = joined(CASES["transposed, two axes"])
    assert isinstance(made, Joined)
    assert made.sums.outs[0].shape == (2, 4 * 9, 6, 5)
    assert "//" not in str(made.sums)
    assert "%" not in str(made.sums)
    assert (made.before, made.results) == (9, 36)


def test_reads_stay_inside_where_the_borders_are_phases_of_nothing():
    """Without padding the first place has one phase less: its data is guarded, whatever the given stage guarded."""
    made = joined(CASES["transposed, three phases"])
    assert isinstance(made, Joined)
    assert any(isinstance(t, Select) for t in postorder(*made.sums.bodies))
    assert made.sums.outs[0].shape == (27, 7)


MIXED = program(
    "y: f32[8,14] = L[k:8,t:14] sum[c:9,r:2]{ x[c,(t+1)//2-r+1+t%2] * u[c,k,(t+1)%2+2*r] }",
    "x: f32[9,10]",
    "u: f32[9,8,4]",
)
REFUSED = {
    "no phases": (image(8, 8, 8, 8, 3, 1), "every result reads the same taps"),
    "a dilation": (image(8, 8, 12, 15, 3, 2, d=2), "every result reads the same taps"),
    "other data in each phase": (MIXED, "phases of a place read other data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_apply_to_is_refused(name: str):
    given, reason = REFUSED[name]
    made = joined(given)
    assert isinstance(made, Refusal)
    assert reason in str(made)
