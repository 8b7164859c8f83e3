"""Sliding sums in tiles compute what they did, over a finite field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tpopt.ir import Builder, Compute, Program
from tpopt.ir.parse import parse_program
from tpopt.passes.derive.derivation import Derivation, Step
from tpopt.passes.derive.form import fragment_of
from tpopt.passes.derive.toom_cook import ToomCook
from tpopt.rewrite import Numerics, Refusal
from tpopt.verify.replay import replay


def program(stage: str, inputs: str, weights: str) -> Program:
    lines = "\n".join(f"weight {w}" for w in weights.split("; "))
    return parse_program(f"program p({inputs})\n{lines}\n{stage}\nreturn y")


def image(k: int, c: int, h: int, w: int, taps: int, pad: int, *, d: int = 1, batch: int = 2) -> Program:
    """A square convolution with bias and ReLU; its padding is a guard."""
    out = [n + 2 * pad - d * (taps - 1) for n in (h, w)]
    i, j = (f"{d}*{r}" if d > 1 else r for r in ("r", "s"))
    x = f"x[n,c,h+{i}-{pad},v+{j}-{pad}]" if pad else f"x[n,c,h+{i},v+{j}]"
    data = f"select({pad} <= h+{i} < {h + pad} & {pad} <= v+{j} < {w + pad}, {x}, 0.0)" if pad else x
    stage = (
        f"y: f32[{batch},{k},{out[0]},{out[1]}] = L[n:{batch},k:{k},h:{out[0]},v:{out[1]}] "
        f"max(sum[c:{c},r:{taps},s:{taps}]{{ {data} * u[k,c,r,s] }} + b[k], 0.0)"
    )
    return program(stage, f"x: f32[{batch},{c},{h},{w}]", f"u: f32[{k},{c},{taps},{taps}]; b: f32[{k}]")


LINE = program(
    "y: f32[9,37] = L[k:9,t:37] sum[c:8,r:4]{ select(2 <= t+r < 38, x[c,t+r-2], 0.0) * u[k,c,r] }",
    "x: f32[8,36]",
    "u: f32[9,8,4]",
)
CASES = {
    "padded": image(8, 9, 11, 13, 3, 1),
    "whole tiles": image(8, 8, 8, 12, 3, 1, batch=1),
    "no padding": image(9, 8, 10, 9, 3, 0),
    "dilated": image(8, 8, 12, 15, 3, 2, d=2),
    "dilated, padded more": image(8, 8, 14, 15, 3, 3, d=3, batch=1),
    "five taps": image(8, 8, 9, 10, 5, 2),
    "two taps": image(8, 8, 7, 9, 2, 1),
    "one axis": LINE,
}


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
