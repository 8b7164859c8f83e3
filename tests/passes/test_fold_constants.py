"""``fold-constants``: what is evaluated, rounded once, and where sizes, times and roles forbid it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.rewriting import run, valued

from tpopt.ir import Origin, Program
from tpopt.passes.fold_constants import FoldConstants
from tpopt.rewrite import Trace

CHAIN = """program p(x: f32[3,4])
weight v: f32[4]
weight e: f32[4]
a: f32[4] = L[c:4] v[c] + e[c]
r: f32[4] = L[c:4] rsqrt(a[c])
y: f32[3,4] = L[n:3,c:4] x[n,c] * r[c]
return y"""


def refused(options: FoldConstants, program: str | Program) -> list[str]:
    """The reasons, where nothing may change."""
    trace = Trace()
    before = valued(program) if isinstance(program, str) else program
    assert options.run(before, trace) is before
    return [e.detail for e in trace.events]


def test_a_chain_becomes_one_weight_under_the_last_name():
    outcome = run(FoldConstants(), CHAIN)
    assert outcome.stages == "y: f32[3,4] = L[n:3,c:4] x[n,c] * r[c]"
    assert outcome.weights == ["v", "e", "r"]
    v, e = (outcome.before.constants[n].astype(np.float64) for n in "ve")
    assert outcome.after.constants["r"].dtype == np.float32
    np.testing.assert_array_equal(outcome.after.constants["r"], (1 / np.sqrt(v + e)).astype(np.float32))
    assert outcome.applied == [("FoldStage", ("r",))]


def test_values_are_rounded_once():
    """Two additions of 2^-25 to 1 vanish in f32, one after the other; together they are half an ulp, and a bit more."""
    text = """program p(x: f32[])
    weight a: f32[]
    weight b: f32[]
    s: f32[] = L[] a[] + b[]
    t: f32[] = L[] s[] + b[]
    y: f32[] = L[] x[] * t[]
    return y"""
    before = replace(valued(text), constants={"a": np.float32(1), "b": np.float32(2**-25 * 1.5)})
    after = FoldConstants().run(before, Trace())
    assert after.constants["t"] == np.float32(1 + 2**-23)


def test_origins_list_every_parameter():
    before = replace(
        valued(CHAIN), origins={"v": Origin(("bn.var",)), "r": Origin(("rsqrt",), ("model.py:7 x",), "bn")}
    )
    after = FoldConstants().run(before, Trace())
    assert after.origin("r") == Origin(("bn.var", "e"), ("model.py:7 x",), "bn")


def test_bf16_is_stored_as_bits():
    text = """program p(x: bf16[4])
    weight w: bf16[4]
    d: bf16[4] = L[i:4] w[i] + w[i]
    y: bf16[4] = L[i:4] x[i] * d[i]
    return y"""
    outcome = run(FoldConstants(), text)
    bits = outcome.after.constants["d"]
    assert bits.dtype == np.uint16
    np.testing.assert_array_equal(bits, outcome.before.constants["w"] + 0x80)  # one more in the exponent


@pytest.mark.parametrize("kind", ["f16", "f64", "i32", "i8", "bool", "c64"])
def test_every_type_keeps_its_storage(kind: str):
    text = f"program p()\nweight w: {kind}[3,2]\nt: {kind}[2,3] = L[i:2,j:3] w[j,i]\nreturn t"
    outcome = run(FoldConstants(), text)
    value, source = outcome.after.constants["t"], outcome.before.constants["w"]
    np.testing.assert_array_equal(value, source.T)
    assert value.dtype.itemsize == outcome.after.weights[-1].dtype.itemsize


def test_an_output_may_be_a_weight():
    outcome = run(FoldConstants(), "program p()\nweight w: f32[3]\ny: f32[3] = L[i:3] exp(w[i])\nreturn y")
    assert (outcome.stages, outcome.weights) == ("", ["w", "y"])


def test_only_what_is_read_is_kept():
    outcome = run(
        FoldConstants(),
        """program p(x: f32[3])
        weight w: f32[3]
        v: f32[3], k: i64[3] = sort(w, axis=0)
        y: f32[3] = L[i:3] x[i] + v[i]
        return y""",
    )
    assert outcome.weights == ["w", "v"]


@pytest.mark.parametrize(
    "text",
    [
        "program p(w: f32[3])\ny: f32[3] = L[i:3] exp(w[i])\nreturn y",
        "program p(x: f32[3])\nweight w: f32[3]\ny: f32[3] = L[i:3] exp(w[i])\nreturn x, y\nalias 0 -> w",
    ],
)
def test_inputs_and_overwritten_weights_are_no_constants(text: str):
    assert refused(FoldConstants(), text) == []


BIG = "program p()\nweight w: f32[8]\ny: f32[8,64] = L[i:8,j:64] exp(w[i]) + f32(j)\nreturn y"


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        (FoldConstants(max_bytes=2047), BIG, "2048 bytes are more than max_bytes=2047"),
        (FoldConstants(max_points=511), BIG, "512 points are more than max_points=511"),
        (
            FoldConstants(growth=63, small_bytes=2047),
            BIG,
            "2048 bytes would replace 32, more than growth=63 times",
        ),
        (
            FoldConstants(),
            "program p(x: f32[s])\nsymbol s in [1, 9]\nweight w: f32[3]\ny: f32[s] = L[i:s] w[0]\nreturn y",
            "its shape is known only at run time",
        ),
        (
            FoldConstants(),
            "program p(x: f32[s])\nsymbol s in [1, 9]\nweight w: f32[3]\ny: f32[3] = L[i:3] w[i] * f32(@(s))\nreturn y",
            "it depends on a size known only at run time",
        ),
        (
            FoldConstants(),
            "program p()\nweight w: f32[3]\ny: f32[3] = opaque aten.sin.default(w)\nreturn y",
            "aten.sin.default has no algebra to evaluate",
        ),
        (
            FoldConstants(),
            "program p()\nweight w: f16[3]\ny: f16[3] = L[i:3] exp(w[i] + 40.0)\nreturn y",
            "it cannot be evaluated: a value of y is too large for f16",
        ),
    ],
)
def test_refuses(options: FoldConstants, text: str, reason: str):
    assert refused(options, text) == [reason]


@pytest.mark.parametrize(
    "options",
    [
        FoldConstants(max_bytes=2048, max_points=512),
        FoldConstants(growth=64, small_bytes=0),
        FoldConstants(growth=0, small_bytes=2048),
    ],
)
def test_limits_are_inclusive(options: FoldConstants):
    assert run(options, BIG).weights == ["w", "y"]


def test_what_is_too_large_reads_what_is_not():
    text = """program p()
    weight w: f32[8]
    e: f32[8] = L[i:8] exp(w[i])
    y: f32[8,64] = L[i:8,j:64] e[i] + f32(j)
    return y"""
    outcome = run(FoldConstants(max_bytes=2047), text)
    assert outcome.stages == "y: f32[8,64] = L[i:8,j:64] e[i] + f32(j)"
    assert outcome.weights == ["w", "e"]


def test_a_failure_keeps_the_stage_and_folds_the_rest():
    text = """program p(x: f16[3])
    weight w: f16[3]
    e: f16[3] = L[i:3] w[i] + 40.0
    y: f16[3] = L[i:3] exp(e[i]) + x[i]
    z: f16[3] = L[i:3] exp(e[i])
    return y, z"""
    before = valued(text)
    after = FoldConstants().run(before, trace := Trace())
    assert [w.name for w in after.weights] == ["w", "e"]
    assert [e.detail for e in trace.events if e.kind == "refused"] == [
        "it cannot be evaluated: a value of z is too large for f16"
    ]


def test_a_formula_stays_a_formula():
    text = """program p(x: c64[4])
    weight F: c64[4,4] structure dft(4, 4, 4, -1)
    G: c64[4,4] = L[i:4,j:4] F[i,j] * 0.5
    y: c64[4] = L[i:4] sum[j:4]{ G[i,j] * x[j] }
    return y"""
    before = replace(valued(text), constants={})
    assert refused(FoldConstants(), before) == []
