"""Seven products of blocks compute what eight did, over a finite field."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.sliding import program

from tpopt.ir import Builder, Compute, Program
from tpopt.ir.parse import parse_program
from tpopt.ir.work import stage_work
from tpopt.passes.derive.derivation import Derivation, Step
from tpopt.passes.derive.form import fragment_of
from tpopt.passes.derive.strassen import Blocked, Strassen
from tpopt.rewrite import Numerics, Refusal
from tpopt.verify.replay import replay

CASES = {
    "a linear layer": program(
        "y: f32[66,70] = L[m:66,n:70] sum[k:68]{ x[m,k] * w[n,k] } + b[n]", "x: f32[66,68]", "w: f32[70,68]; b: f32[70]"
    ),
    "odd lengths": program(
        "y: f32[65,67] = L[m:65,n:67] tanh(sum[k:69]{ x[m,k] * w[k,n] })", "x: f32[65,69]", "w: f32[69,67]"
    ),
    "the weight first": program(
        "y: f32[64,66] = L[n:64,m:66] sum[k:64]{ w[n,k] * x[k,m] }", "x: f32[64,66]", "w: f32[64,64]"
    ),
    "a batch, and several rows": program(
        "y: f32[2,3,64,64] = L[b:2,h:3,m:64,n:64] sum[k:64,g:2]{ x[b,h,m,k,g] * w[b,n,g,k] }",
        "x: f32[2,3,64,64,2]",
        "w: f32[2,64,2,64]",
    ),
    "both factors move": parse_program(
        "program p(x: f32[64,65], w: f32[65,66])\ny: f32[64,66] = L[m:64,n:66] sum[k:65]{ x[m,k] * w[k,n] }\nreturn y"
    ),
    "zeros around the data": program(
        "y: f32[66,64] = L[m:66,n:64] sum[k:64]{ select(1 <= m < 65, x[m-1,k], 0.0) * w[n,k] }",
        "x: f32[64,64]",
        "w: f32[64,64]",
    ),
}


def made(given: Program) -> Blocked:
    (stage,) = given.stages
    assert isinstance(stage, Compute)
    found = Strassen().run(given, stage, Builder(given.tensors))
    assert isinstance(found, Blocked), str(found)
    return found


def derived(given: Program) -> Derivation:
    (stage,) = given.stages
    assert isinstance(stage, Compute)
    found = made(given)
    after = fragment_of(given, found.stages, stage.outs, found.tensors)
    before = fragment_of(given, (stage,), stage.outs)
    return Derivation(stage, before, (Step("Strassen", Numerics.CONDITIONING, "", after),), 1.0, 2.0)


@pytest.mark.parametrize("name", CASES)
def test_every_element_is_equal_over_the_field(name: str):
    verdict = replay(derived(CASES[name]).certificate())
    assert verdict.passed, str(verdict)
    assert all(s.elements for s in verdict.steps)


def test_another_form_is_found_out():
    text = derived(CASES["a linear layer"]).certificate()
    wrong = text.links[0].program.replace('structure strassen("left")', 'structure strassen("right")')
    assert wrong != text.links[0].program
    assert not replay(replace(text, links=(replace(text.links[0], program=wrong),))).passed


def test_an_eighth_of_the_products_is_saved():
    given = CASES["the weight first"]
    found = made(given)
    assert stage_work(found.products, {}).macs / stage_work(given.stages[0], {}).macs == 7 / 8
    assert [m.outs[0].name for m in found.moving] == ["y.right"]  # the weight's sums are taken before the program runs


def line(body: str, inputs: str, weights: str = "b: f32[1]", kind: str = "f32", rows: int = 64) -> Program:
    return program(f"y: {kind}[{rows},64] = L[m:{rows},n:64] {body}", inputs, weights)


REFUSED = {
    "few rows": (line("sum[k:64]{ x[m,k] * w[n,k] }", "x: f32[63,64]", "w: f32[64,64]", rows=63), "fewer than 64"),
    "few terms": (line("sum[k:63]{ x[m,k] * w[n,k] }", "x: f32[64,63]", "w: f32[64,63]"), "fewer than 64"),
    "one factor": (line("sum[k:64]{ x[m,n,k] }", "x: f32[64,64,64]"), "no sum of products"),
    "f64": (
        line("sum[k:64]{ x[m,k] * w[n,k] }", "x: f64[64,64]", "w: f64[64,64]", kind="f64"),
        "only f32 is exact enough",
    ),
    "a function of the data": (
        line("sum[k:64]{ exp(x[m,k]) * w[n,k] }", "x: f32[64,64]", "w: f32[64,64]"),
        "a factor is not read",
    ),
    "no columns": (line("sum[k:64]{ x[m,n,k] * w[m,n,k] }", "x: f32[64,64,64]", "w: f32[64,64,64]"), "no rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_apply_to_is_refused(name: str):
    given, reason = REFUSED[name]
    stage = given.stages[0]
    assert isinstance(stage, Compute)
    found = Strassen().run(given, stage, Builder(given.tensors))
    assert isinstance(found, Refusal)
    assert reason in str(found)
