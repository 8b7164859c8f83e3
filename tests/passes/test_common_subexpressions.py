"""``common-subexpressions``: what counts as equal, and names that must survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.rewriting import run, valued

from tpopt.passes.common_subexpressions import CommonSubexpressions
from tpopt.rewrite import Trace

SUM = """program p(x: f32[3,5])
a: f32[3] = L[i0:3] sum[k:5]{{ exp(x[i0,k]) }}
b: f32[3] = {second}
c: f32[3] = L[i0:3] a[i0] * b[i0]
return c"""


def test_merges_stages_that_differ_in_iterator_names():
    outcome = run(CommonSubexpressions(), SUM.format(second="L[n:3] sum[j:5]{ exp(x[n,j]) }"))
    assert outcome.stages == "a: f32[3] = L[i0:3] sum[k:5]{ exp(x[i0,k]) }\nc: f32[3] = L[i0:3] a[i0] * a[i0]"
    assert outcome.applied == [("MergeStages", ("b", "a"))]


@pytest.mark.parametrize(
    "second",
    ["L[i0:3] sum[k:5]{ sin(x[i0,k]) }", "L[i0:3] max[k:5]{ exp(x[i0,k]) }", "L[i0:3] sum[k:4]{ exp(x[i0,k]) }"],
)
def test_keeps_what_differs(second: str):
    outcome = run(CommonSubexpressions(), SUM.format(second=second))
    assert outcome.after is outcome.before


def test_merging_goes_on_through_the_readers():
    outcome = run(
        CommonSubexpressions(),
        """program p(x: f32[3])
        a: f32[3] = L[i:3] exp(x[i])
        b: f32[3] = L[i:3] exp(x[i])
        c: f32[3] = L[i:3] sin(a[i])
        d: f32[3] = L[i:3] sin(b[i])
        e: f32[3] = L[i:3] c[i] - d[i]
        return e""",
    )
    assert outcome.stages.splitlines()[1:] == ["c: f32[3] = L[i:3] sin(a[i])", "e: f32[3] = L[i:3] c[i] - c[i]"]


def test_an_output_gives_its_name_to_the_stage_that_stays():
    outcome = run(
        CommonSubexpressions(),
        """program p(x: f32[3])
        a: f32[3] = L[i:3] exp(x[i])
        c: f32[3] = L[i:3] sin(a[i])
        y: f32[3] = L[i:3] exp(x[i])
        return c, y""",
    )
    assert outcome.stages == "y: f32[3] = L[i:3] exp(x[i])\nc: f32[3] = L[i:3] sin(y[i])"


def test_a_second_equal_output_is_a_copy():
    outcome = run(
        CommonSubexpressions(),
        """program p(x: f32[3])
        y: f32[3] = L[i:3] exp(x[i])
        z: f32[3] = L[i:3] exp(x[i])
        return y, z""",
    )
    assert outcome.stages == "y: f32[3] = L[i:3] exp(x[i])\nz: f32[3] = L[i0:3] y[i0]"


def test_merges_equal_weights():
    before = valued(
        """program p(x: f32[3])
        weight v: f32[3]
        weight w: f32[3]
        weight u: f32[3]
        y: f32[3] = L[i:3] x[i] * v[i] + w[i] * u[i]
        return y"""
    )
    values = before.constants["v"]
    outcome = run(
        CommonSubexpressions(), replace(before, constants={**before.constants, "w": values.copy(), "u": values + 1})
    )
    assert outcome.stages == "y: f32[3] = L[i:3] x[i] * v[i] + v[i] * u[i]"
    assert outcome.weights == list(outcome.after.constants) == ["v", "u"]


def test_weights_that_differ_between_samples_stay():
    text = "program p()\nweight v: f32[1000]\nweight w: f32[1000]\ny: f32[1000] = L[i:1000] v[i] - w[i]\nreturn y"
    v = np.zeros(1000, np.float32)
    w = v.copy()
    w[1] = 1  # not among the samples
    before = replace(valued(text), constants={"v": v, "w": w})
    assert CommonSubexpressions().run(before, Trace()) is before


def test_a_weight_that_an_alias_overwrites_stays():
    before = valued(
        """program p(x: f32[3])
        weight v: f32[3]
        weight w: f32[3]
        y: f32[3] = L[i:3] x[i] * v[i] + w[i]
        return y
        alias 0 -> w"""
    )
    before = replace(before, constants=dict.fromkeys("vw", before.constants["v"]))
    assert CommonSubexpressions().run(before, Trace()) is before


def test_calls_merge_unless_they_have_effects():
    text = """program p(x: f32[3])
    a: f32[3] = {effect}opaque aten.sin.default(x)
    b: f32[3] = {effect}opaque aten.sin.default(x)
    c: f32[3] = opaque aten.add.Tensor(a, b)
    return c"""
    pure, effectful = (valued(text.format(effect=e)) for e in ("", "effectful "))
    after = CommonSubexpressions().run(pure, Trace())
    assert [s.outs[0].name for s in after.stages] == ["a", "c"]
    assert CommonSubexpressions().run(effectful, Trace()) is effectful


def test_sorts_merge():
    outcome = run(
        CommonSubexpressions(),
        """program p(x: f32[3])
        a: f32[3], b: i64[3] = sort(x, axis=0)
        c: f32[3], d: i64[3] = sort(x, axis=0)
        y: f32[3] = L[i:3] a[i] + f32(d[i])
        return y""",
    )
    assert outcome.stages.splitlines()[1] == "y: f32[3] = L[i:3] a[i] + f32(b[i])"
