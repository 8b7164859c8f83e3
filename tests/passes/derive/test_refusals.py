"""What must not be derived: each refused by its law for the right reason, or derived with what makes it right."""

from __future__ import annotations

import pytest
from support.derivations import explored, reasons

from tpopt.ir import Select, postorder
from tpopt.ir.work import work
from tpopt.verify.replay import replay


def program(*lines: str, inputs: str, outputs: str = "y") -> str:
    return "\n".join([f"program p({inputs})", *lines, f"return {outputs}"])


DILATED = "y: f32[1,{h}] = L[n:1,h:{h}] sum[r:3]{{ select(2 <= h+2*r < {e}, x[n,h+2*r-2], 0.0) * w[r] }}"


def test_phases_that_do_not_divide_an_extent():
    text = program("weight w: f32[3]", DILATED.format(h=9, e=11), inputs="x: f32[1,9]")
    assert reasons(text, "SplitPhases") == ["y: 2 phases do not divide its extent 9"]


def test_phases_of_an_extent_that_is_known_at_run_time():
    text = """program p(x: f32[1,s])
    symbol s in [4, inf]
    weight w: f32[3]
    y: f32[1,s] = L[n:1,h:s] sum[r:3]{ select(2 <= h+2*r < s+2, x[n,h+2*r-2], 0.0) * w[r] }
    return y"""
    assert any("is known at run time" in r for r in reasons(text, "SplitPhases"))


def test_phases_keep_the_guards_of_every_read():
    text = program("weight w: f32[3]", DILATED.format(h=8, e=10), inputs="x: f32[1,8]")
    (found,) = (d for d in explored(text) if d.laws == ("SplitPhases",))
    (conv,) = (s for s in found.result.stages if s.outs[0].name == "y.phases")
    (guard,) = (t.guard for t in postorder(*conv.bodies) if isinstance(t, Select))
    assert [(str(b.low), str(b.value), str(b.high)) for b in guard.bounds] == [("1", "h+r", "5")]
    assert replay(found.certificate()).passed


def test_linear_attention_is_not_reordered_under_a_softmax():
    text = program(
        "s: f32[8,8] = L[i:8,j:8] exp(sum[k:4]{ q[i,k] * a[j,k] })",
        "y: f32[8,4] = L[i:8,c:4] sum[j:8]{ s[i,j] * v[j,c] }",
        inputs="q: f32[8,4], a: f32[8,4], v: f32[8,4]",
    )
    assert all(len(d.original.stages) == 1 for d in explored(text))


def test_linear_attention_under_a_causal_mask_keeps_the_mask_between_queries_and_keys():
    text = program(
        "s: f32[64,64] = L[i:64,j:64] select(0 <= i-j < 64, sum[k:4]{ q[i,k] * a[j,k] }, 0.0)",
        "y: f32[64,4] = L[i:64,c:4] sum[j:64]{ s[i,j] * v[j,c] }",
        inputs="q: f32[64,4], a: f32[64,4], v: f32[64,4]",
    )
    found = explored(text)
    assert found
    assert all(replay(d.certificate()).passed for d in found)
    assert min(work(d.result).macs for d in found) >= 64 * 64 * 4  # never the 2*64*4*4 of attention without a mask


@pytest.mark.parametrize("function", ["max({}, 0.0)", "abs({})", "sigmoid({})"])
def test_nothing_nonlinear_moves_through_a_sum(function: str):
    inner = function.format("sum[k:8]{ x[i,k] * a[k,j] }")
    text = program(
        f"h: f32[8,8] = L[i:8,j:8] {inner}",
        "y: f32[8,2] = L[i:8,c:2] sum[j:8]{ h[i,j] * b[j,c] }",
        inputs="x: f32[8,8], a: f32[8,8], b: f32[8,2]",
    )
    assert all(len(d.original.stages) == 1 for d in explored(text))


def test_a_largest_value_over_a_padded_window_is_no_sum_of_products():
    text = program("y: f32[8] = L[i:8] max[r:3]{ select(1 <= i+r < 9, x[i+r-1], -inf) }", inputs="x: f32[8]")
    assert explored(text) == []


def test_convolutions_of_different_dilation_are_not_merged():
    text = program(
        "weight a: f32[3]", "weight b: f32[3]",
        "y: f32[8] = L[i:8] sum[r:3]{ select(1 <= i+r < 9, x[i+r-1], 0.0) * a[r] } + "
        "sum[r:3]{ select(2 <= i+2*r < 10, x[i+2*r-2], 0.0) * b[r] }",
        inputs="x: f32[8]",
    )  # fmt: skip
    assert "no two products differ in constants alone" in reasons(text, "MergeTerms")


CORNERS = "y: f32[9,8] = L[i:9,j:8] sum[k:7,r:2]{{ x[i,k] * a[k,r] * b[r,j] }} + sum[k:7,s:3]{{ {0} * c[k,s] * {1} }}"


@pytest.mark.parametrize("other", [("x[8-i,k]", "d[s,j]"), ("x[i,k]", "z[s,j]"), ("x[i,k] * x[i,s]", "d[s,j]")])
def test_products_that_differ_in_what_is_computed_are_not_joined(other: tuple[str, str]):
    text = program(
        "weight a: f32[7,2]", "weight b: f32[2,8]", "weight c: f32[7,3]", "weight d: f32[3,8]", CORNERS.format(*other),
        inputs="x: f32[9,7], z: f32[3,8]",
    )  # fmt: skip
    assert "no two products differ in one summed iterator and its constants" in reasons(text, "JoinSums")


def test_products_with_constants_of_other_iterators_are_not_joined():
    text = program(
        "weight a: f32[7,2]", "weight b: f32[2,8]", "weight c: f32[7,3,8]",
        "y: f32[9,8] = L[i:9,j:8] sum[k:7,r:2]{ x[i,k] * a[k,r] * b[r,j] } + sum[k:7,s:3]{ x[i,k] * c[k,s,j] }",
        inputs="x: f32[9,7]",
    )  # fmt: skip
    assert "no two products differ in one summed iterator and its constants" in reasons(text, "JoinSums")


def test_a_constant_that_is_mostly_not_zero_is_no_list():
    text = program(
        "weight g: f32[6,5]",
        "y: f32[9,5] = L[u:9,k:5] sum[i:6]{ g[i,k] * x[u,i] * z[i] }",
        inputs="x: f32[9,6], z: f32[6]",
    )
    assert "g: 100% of its elements are not zero, more than 35%" in reasons(text, "SparseConstants")


def test_a_power_over_computed_coefficients_is_no_polynomial():
    text = program("y: f32[9] = L[b:9] sum[i:4,j:4]{ c[b,i,j] * x[b,i] * x[b,j] }", inputs="x: f32[9,4], c: f32[9,4,4]")
    assert "no tensor is multiplied with itself over constant coefficients" in reasons(text, "SymmetricPowers")


def test_integers_are_left_alone():
    text = program(
        "t: i32[8,8] = L[i:8,j:8] sum[k:8]{ a[i,k] * b[k,j] }",
        "y: i32[8,1] = L[i:8,j:1] sum[k:8]{ t[i,k] * c[k,j] }",
        inputs="a: i32[8,8], b: i32[8,8], c: i32[8,1]",
    )
    assert explored(text) == []


def test_a_divisor_that_does_not_divide_the_extent_splits_nothing():
    text = program("y: f32[10] = L[i:10] sum[k:3]{ x[i//4] * z[k] }", inputs="x: f32[3], z: f32[3]")
    assert "i//4: 4 does not divide the extent 10" in reasons(text, "SplitIterators")


def test_a_sum_that_is_a_matrix_product_is_not_split():
    text = program(
        "y: f32[9,7] = L[i:9,j:7] sum[k:5]{ x[i,k] * z[k,j] * v[k] }", inputs="x: f32[9,5], z: f32[5,7], v: f32[5]"
    )
    assert reasons(text, "SplitSummation") == ["it is no product of two reads"]
