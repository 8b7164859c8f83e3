"""``fold-affine``: maps after and before products of every kind, and each guard with its reason."""

# ruff: noqa: E501 (a case is a line of program text)

from __future__ import annotations

import pytest
from support.rewriting import Outcome, run

from tpopt.passes.fold_affine import FoldAffine

WEIGHTS = """weight w: f32[4,8]
weight c: f32[4]
weight m: f32[4]
weight s: f32[4]
weight u: f32[8]
weight v: f32[8]"""
PRODUCT = "y: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * w[o,k] }"
BIASED = f"{PRODUCT} + c[o]"


def fold(stages: str, outputs: str = "z", inputs: str = "x: f32[9,8]", **options: int) -> Outcome:
    return run(FoldAffine(**options), f"program p({inputs})\n{WEIGHTS}\n{stages}\nreturn {outputs}")


def test_a_normalization_after_a_product():
    outcome = fold(f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] (y[i,o] - m[o]) * s[o] + c[o]")
    assert outcome.stages.splitlines() == [
        "z.weight: f32[4,8] = L[i0:4,i1:8] w[i0,i1] * s[i0]",
        "z.bias: f32[4] = L[i0:4] s[i0] * -m[i0] + c[i0]",
        "z: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * z.weight[o,k] } + z.bias[o]",
    ]
    assert outcome.applied == [("FoldAffineOfContraction", ("z", "y"))]


def test_the_bias_of_the_product_is_scaled_too():
    outcome = fold(f"{BIASED}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]")
    assert outcome.stages.splitlines()[1] == "z.bias: f32[4] = L[i0:4] s[i0] * c[i0]"


def test_a_bias_alone_makes_no_new_weight():
    outcome = fold(f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] + c[o]")
    assert outcome.stages == "z: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * w[o,k] } + c[o]"


def test_a_plain_number_becomes_a_bias_for_every_channel():
    outcome = fold(f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] 1.0 - y[i,o] / 2.0")
    assert outcome.stages.splitlines()[1] == "z.bias: f32[4] = L[i0:4] 1.0"


def test_chains_fold_one_after_the_other():
    stages = f"{PRODUCT}\na: f32[9,4] = L[i:9,o:4] y[i,o] - m[o]\nb: f32[9,4] = L[i:9,o:4] -a[i,o]\nz: f32[9,4] = L[i:9,o:4] s[o] * b[i,o]"
    outcome = fold(stages)
    assert [s.partition(":")[0] for s in outcome.stages.splitlines()][-1] == "z"
    assert outcome.stages.count("sum") == 1
    assert len(outcome.applied) == 3


def test_a_transposed_read_of_the_product():
    outcome = fold(f"{PRODUCT}\nz: f32[4,9] = L[o:4,i:9] y[i,o] * s[o]")
    assert outcome.stages.splitlines()[-1] == "z: f32[4,9] = L[o:4,i:9] sum[k:8]{ x[i,k] * z.weight[o,k] }"


def test_a_loop_named_as_the_summed_iterator():
    outcome = fold(f"{PRODUCT}\nz: f32[9,4] = L[k:9,o:4] y[k,o] * s[o]")
    assert outcome.stages.splitlines()[-1] == "z: f32[9,4] = L[k:9,o:4] sum[k0:8]{ x[k,k0] * z.weight[o,k0] }"


def test_an_axis_of_extent_one_read_at_zero():
    product = "y: f32[1,9,4] = L[n:1,i:9,o:4] sum[k:8]{ x[i,k] * w[o,k] }"
    outcome = fold(f"{product}\nz: f32[1,9,4] = L[n:1,i:9,o:4] y[0,i,o] * s[o]")
    assert outcome.stages.splitlines()[-1].startswith("z: f32[1,9,4] = L[n:1,i:9,o:4] sum[k:8]")
    outcome = fold(f"{product}\nz: f32[9,4] = L[i:9,o:4] y[0,i,o] * s[o]")
    assert outcome.stages.splitlines()[-1] == "z: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * z.weight[o,k] }"


def test_a_scale_that_is_itself_computed_from_weights():
    outcome = fold(f"{PRODUCT}\nr: f32[4] = L[o:4] rsqrt(s[o] + 1e-05)\nz: f32[9,4] = L[i:9,o:4] y[i,o] * r[o]")
    assert "z.weight: f32[4,8] = L[i0:4,i1:8] w[i0,i1] * r[i0]" in outcome.stages


def test_a_weight_under_a_guard():
    product = "y: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * select(0 <= k < 7, w[o,k], 0.0) }"
    outcome = fold(f"{product}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]")
    assert outcome.stages.splitlines()[-1].endswith("sum[k:8]{ x[i,k] * select(0 <= k < 7, z.weight[o,k], 0.0) }")


AFTER = [
    (f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]\nq: f32[9,4] = L[i:9,o:4] exp(y[i,o])", "z, q", "the product has other readers"),
    (f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]", "y, z", "the product is an output of the program"),
    (f"{PRODUCT}\nz: f32[5,4] = L[i:5,o:4] y[2*i,o] * s[o]", "z", "the product is read through an index map"),
    (f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * g[i,o]", "z", "the scale is no function of weights alone"),
    (f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] + g[i,o]", "z", "the shift is no function of weights alone"),
    (f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * f32(@(i))", "z", "the scale varies along a loop that is no axis of the weight alone"),
    (f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] + f32(@(i))", "z", "the shift varies along a loop that is no axis of the weight alone"),
    (f"{BIASED.replace('sum', 'exp(sum').replace('}', '})')}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]", "z", "the product is no affine part of its stage: exp is not affine"),
    ("y: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * x[o,k] }\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]", "z", "no factor of the product is a weight"),
    ("y: f32[9,2] = L[i:9,o:2] sum[k:8]{ x[i,k] * w[o,k] }\nz: f32[9,2] = L[i:9,o:2] y[i,o] * s[o]", "z", "the scale varies along a loop that is no axis of the weight alone"),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "outputs", "reason"), AFTER)
def test_refuses_after(stages: str, outputs: str, reason: str):
    outcome = fold(stages, outputs, "x: f32[9,8], g: f32[9,4]")
    assert outcome.after is outcome.before
    assert outcome.refused == [reason]


def test_a_cast_between_is_a_rounding_that_stays():
    product = "y: f16[9,4] = L[i:9,o:4] f16(sum[k:8]{ x[i,k] * w[o,k] })"
    outcome = fold(f"{product}\nz: f16[9,4] = L[i:9,o:4] y[i,o] * 2.0")
    assert outcome.refused == ["the product is no affine part of its stage: a cast stands between"]


def test_a_large_weight_is_left_alone():
    stages = f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] y[i,o] * s[o]"
    assert fold(stages, max_bytes=127).refused == ["the scaled weight takes 128 bytes, more than max_bytes=127"]
    assert fold(stages, max_bytes=128).refused == []


@pytest.mark.parametrize("body", ["exp(y[i,o])", "max(y[i,o] * s[o], 0.0)", "y[i,o] * y[i,o]", "y[i,o]"])
def test_says_nothing_of_what_is_not_affine(body: str):
    outcome = fold(f"{PRODUCT}\nz: f32[9,4] = L[i:9,o:4] {body}")
    assert (outcome.after, outcome.refused) == (outcome.before, [])


def test_a_map_before_a_product():
    outcome = fold(
        "a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k] + v[k]\nz: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] } + c[o]"
    )
    assert outcome.stages.splitlines() == [
        "z.weight: f32[4,8] = L[i0:4,i1:8] w[i0,i1] * u[i1]",
        "z.bias: f32[4] = L[i0:4] sum[k:8]{ v[k] * w[i0,k] } + c[i0]",
        "z: f32[9,4] = L[i:9,o:4] sum[k:8]{ x[i,k] * z.weight[o,k] } + z.bias[o]",
    ]
    assert outcome.applied == [("FoldContractionOfAffine", ("z", "a"))]


def test_a_map_before_several_products():
    stages = """a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]
    p: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] }
    q: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] } + c[o]"""
    outcome = fold(stages, "p, q")
    assert [s.partition(":")[0] for s in outcome.stages.splitlines()] == ["p.weight", "p", "q.weight", "q"]


def test_a_scale_passes_a_padding_guard():
    conv = "z: f32[4,5] = L[o:4,i:5] sum[k:8]{ select(0 <= i < 4, a[i,k], 0.0) * w[o,k] }"
    outcome = fold(f"a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]\n{conv}")
    assert outcome.stages.splitlines()[-1].endswith("select(0 <= i < 4, x[i,k], 0.0) * z.weight[o,k] }")


BEFORE = [
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] + v[k]\nz: f32[4,5] = L[o:4,i:5] sum[k:8]{ select(0 <= i < 4, a[i,k], 0.0) * w[o,k] }", "z", "a padding guard reads zero where the map gives its shift"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] + v[k]\nz: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] * x[i,k] }", "z", "the shift would meet more than one factor"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]\nz: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] }", "a, z", "the map's result is an output of the program"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]\nz: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] }\nq: f32[9,8] = L[i:9,k:8] exp(a[i,k])", "z, q", "the map's result is also read by a stage that is no contraction"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]\nz: f32[9,9] = L[i:9,o:9] sum[k:8]{ a[i,k] * a[o,k] }", "z", "the map's result is read more than once"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]\nz: f32[9,4] = L[i:9,o:4] sum[k:8]{ exp(a[i,k]) * w[o,k] }", "z", "the map's result is read inside another function"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] * f32(@(i))\nz: f32[9,4] = L[i:9,o:4] sum[k:8]{ a[i,k] * w[o,k] }", "z", "the scale varies along a loop that is no axis of the weight alone"),
    ("a: f32[9,8] = L[i:9,k:8] x[i,k] * u[k]\nz: f32[9,4] = L[i:9,o:4] exp(sum[k:8]{ a[i,k] * w[o,k] })", "z", "the product is no affine part of its stage: exp is not affine"),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "outputs", "reason"), BEFORE)
def test_refuses_before(stages: str, outputs: str, reason: str):
    outcome = fold(stages, outputs)
    assert outcome.after is outcome.before
    assert outcome.refused == [reason]


def test_convolutions_fold_along_their_filters():
    outcome = run(
        FoldAffine(),
        """program p(x: f32[2,3,7,7])
        weight w: f32[4,3,3,3]
        weight s: f32[4]
        y: f32[2,4,7,7] = L[n:2,o:4,h:7,v:7] sum[c:3,r:3,q:3]{ select(1 <= h+r < 8 & 1 <= q+v < 8, x[n,c,h+r-1,q+v-1], 0.0) * w[o,c,r,q] }
        z: f32[2,4,7,7] = L[n:2,o:4,h:7,v:7] y[n,o,h,v] * s[o]
        return z""",
    )
    assert outcome.stages.splitlines()[0] == "z.weight: f32[4,3,3,3] = L[i0:4,i1:3,i2:3,i3:3] w[i0,i1,i2,i3] * s[i0]"


def test_a_formula_is_not_scaled():
    outcome = run(
        FoldAffine(),
        """program p(x: c64[5])
        weight F: c64[4,5] structure dft(5, 4, 5, -1)
        y: c64[4] = L[i:4] sum[k:5]{ F[i,k] * x[k] }
        z: c64[4] = L[i:4] y[i] * 0.5
        return z""",
    )
    assert outcome.refused == ["the weight is given by a formula"]


def test_run_time_batches_fold():
    outcome = run(
        FoldAffine(),
        """program p(x: f32[b,8])
        symbol b in [1, 64]
        weight w: f32[4,8]
        weight s: f32[4]
        y: f32[b,4] = L[i:b,o:4] sum[k:8]{ x[i,k] * w[o,k] }
        z: f32[b,4] = L[i:b,o:4] y[i,o] * s[o]
        return z""",
    )
    assert outcome.stages.splitlines()[-1] == "z: f32[b,4] = L[i:b,o:4] sum[k:8]{ x[i,k] * z.weight[o,k] }"
