"""Sliding sums in tiles compute what they did, over a finite field."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.sliding import CASES, image, program

from tpopt.ir import Builder, Compute, Program
from tpopt.passes.derive.derivation import Derivation, Step
from tpopt.passes.derive.form import fragment_of
from tpopt.passes.derive.toom_cook import ToomCook
from tpopt.rewrite import Numerics, Refusal
from tpopt.verify.replay import replay


def derived(given: Program, tile: int) -> Derivation:
    (stage,) = given.stages
    assert isinstance(stage, Compute)
    made = ToomCook(tile).run(given, stage, Builder(given.tensors))
    assert not isinstance(made, Refusal), str(made)
    after = fragment_of(given, made.stages, stage.outs, made.matrices)
    before = fragment_of(given, (stage,), stage.outs)
    return Derivation(stage, before, (Step("ToomCook", Numerics.CONDITIONING, "", after),), 1.0, 2.0)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_every_element_is_equal_over_the_field(name: str, tile: int):
    verdict = replay(derived(CASES[name], tile).certificate())
    assert verdict.passed, str(verdict)
    assert all(s.elements for s in verdict.steps)


def test_a_wrong_matrix_is_found_out():
    text = derived(CASES["padded"], 4).certificate()
    wrong = text.links[0].program.replace('toom_cook("sums", 4, 3)', 'toom_cook("data", 4, 3)')
    assert wrong != text.links[0].program
    assert not replay(replace(text, links=(replace(text.links[0], program=wrong),))).passed


def test_fewer_products_are_left():
    before, after = (p for p in (CASES["padded"], derived(CASES["padded"], 4).result))
    products = next(s for s in after.stages if s.outs[0].name.startswith("y.products"))
    assert products.outs[0].shape[:2] == (6, 6)
    assert before.stages[0].outs == after.stages[-1].outs


def line(body: str, x: str, u: str, kind: str = "f32") -> Program:
    """One stage ``y`` of nine rows, or of eight where there is no ``k``."""
    rows = "k:9" if "k" in body else "c:8"
    return program(f"y: {kind}[{rows[2]},18] = L[{rows},t:18] {body}", x, u)


SUM = "sum[c:8,r:3]{ x[c,t+r] * u[k,c,r] }"
ONES = "sum[c:8,r:3]{ select(1 <= t+r < 19, x[c,t+r-1], 1.0) * u[k,c,r] }"
REFUSED = {
    "few results": (image(4, 8, 8, 8, 3, 1), "fewer than 8 channels"),
    "few terms": (image(8, 4, 8, 8, 3, 1), "fewer than 8 channels"),
    "one tap": (image(8, 8, 8, 8, 1, 0), "slides along no loop"),
    "small image": (image(8, 8, 3, 9, 3, 1), "fewer results than a tile"),
    "a stride": (
        line("sum[c:8,r:3]{ x[c,2*t+r] * u[k,c,r] }", "x: f32[8,40]", "u: f32[9,8,3]"),
        "slides along no loop",
    ),
    "a channel each": (line("sum[r:3]{ x[c,t+r] * u[c,r] }", "x: f32[8,20]", "u: f32[8,3]"), "through both factors"),
    "f64": (line(SUM, "x: f64[8,20]", "u: f64[9,8,3]", "f64"), "only f32"),
    "no weight": (line(SUM, "x: f32[8,20], u: f32[9,8,3]", "b: f32[1]"), "has to be a weight"),
    "ones around": (line(ONES, "x: f32[8,18]", "u: f32[9,8,3]"), "zeros around"),
    "a diagonal": (
        line("sum[c:8,r:3]{ x[c,t+r,t] * u[k,c,r] }", "x: f32[8,20,18]", "u: f32[9,8,3]"),
        "slides along no",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_apply_to_is_refused(name: str):
    given, reason = REFUSED[name]
    stage = given.stages[0]
    assert isinstance(stage, Compute)
    made = ToomCook(4).run(given, stage, Builder(given.tensors))
    assert isinstance(made, Refusal)
    assert reason in str(made)
