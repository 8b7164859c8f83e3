"""``merge-shared-gemms``: which products are one wider product, and which must stay apart."""

# ruff: noqa: E501 (a case is a line of program text)

from __future__ import annotations

import pytest
from support.rewriting import Outcome, run

from tpopt.passes.merge_shared_gemms import MergeSharedGemms

READER = "y: f32[9] = L[i:9] sum[k:4]{ q[i,k] * v[i,k] }"
Q = "q: f32[9,8] = L[i:9,o:8] sum[k:6]{ x[i,k] * a[o,k] }"
V = "v: f32[9,4] = L[i:9,o:4] sum[k:6]{ x[i,k] * b[o,k] }"


def merge(*stages: str, outputs: str = "y", **options: int) -> Outcome:
    text = f"""program p(x: f32[9,6], g: f32[9,6])
    weight a: f32[8,6]
    weight b: f32[4,6]
    weight ba: f32[8]
    weight bb: f32[4]
    {chr(10).join(stages)}
    return {outputs}"""
    return run(MergeSharedGemms(**options), text)


def test_joins_weights_and_slices_the_result():
    outcome = merge(Q, V, READER)
    assert outcome.stages.splitlines() == [
        "q.merged.weight: f32[12,6] = L[i0:12,i1:6] select(0 <= i0 < 8, a[i0,i1], b[i0-8,i1])",
        "q.merged: f32[9,12] = L[i:9,o:12] sum[k:6]{ x[i,k] * q.merged.weight[o,k] }",
        "q: f32[9,8] = L[i:9,o:8] q.merged[i,o]",
        "v: f32[9,4] = L[i:9,o:4] q.merged[i,o+8]",
        READER,
    ]
    assert outcome.applied == [("JoinWeights", ("q", "v"))]


def test_biases_are_joined_too_whatever_the_iterators_are_called():
    other = "v: f32[9,4] = L[n:9,m:4] sum[c:6]{ x[n,c] * b[m,c] } + bb[m]"
    outcome = merge(f"{Q} + ba[o]", other, READER)
    assert "q.merged.bias: f32[12] = L[i0:12] select(0 <= i0 < 8, ba[i0], bb[i0-8])" in outcome.stages
    assert "sum[k:6]{ x[i,k] * q.merged.weight[o,k] } + q.merged.bias[o]" in outcome.stages


def test_convolutions_of_equal_geometry():
    conv = (
        "{out}: f32[2,{f},5] = L[n:2,o:{f},i:5] sum[c:3,r:3]{{ select(1 <= i+r < 6, x[n,c,i+r-1], 0.0) * {w}[o,c,r] }}"
    )
    text = f"""program p(x: f32[2,3,5])
    weight a: f32[4,3,3]
    weight b: f32[2,3,3]
    {conv.format(out="q", f=4, w="a")}
    {conv.format(out="v", f=2, w="b")}
    y: f32[2,2,5] = L[n:2,o:2,i:5] q[n,2*o,i] * v[n,o,i]
    return y"""
    outcome = run(MergeSharedGemms(), text)
    assert outcome.stages.splitlines()[3] == "v: f32[2,2,5] = L[n:2,o:2,i:5] q.merged[n,o+4,i]"


def test_three_members():
    third = "w: f32[9,3] = L[i:9,o:3] sum[k:6]{ x[i,k] * d[o,k] }"
    text = f"""program p(x: f32[9,6])
    weight a: f32[8,6]
    weight b: f32[4,6]
    weight d: f32[3,6]
    {Q}
    {V}
    {third}
    y: f32[9] = L[i:9] sum[k:3]{{ q[i,k] * v[i,k] + w[i,k] }}
    return y"""
    outcome = run(MergeSharedGemms(), text)
    first = "q.merged.weight: f32[15,6] = L[i0:15,i1:6] select(0 <= i0 < 8, a[i0,i1], select(8 <= i0 < 12, b[i0-8,i1], d[i0-12,i1]))"
    assert outcome.stages.splitlines()[0] == first
    assert "w: f32[9,3] = L[i:9,o:3] q.merged[i,o+12]" in outcome.stages


@pytest.mark.parametrize(
    "other",
    [
        V.replace("x[i,k]", "g[i,k]"),
        V.replace("x[i,k]", "x[-i+8,k]"),
        V.replace("x[i,k]", "exp(x[i,k])"),
        f"{V} + bb[o]",
        V.replace("b[o,k]", "a[o,k]"),
        V.replace("b[o,k]", "b[-o+3,k]"),
        V.replace("b[o,k]", "g[o,k]"),
        V.replace("x[i,k]", "x[i+o,k]").replace("i:9", "i:5").replace("[9,4]", "[5,4]"),
    ],
)
def test_what_differs_stays_apart(other: str):
    reader = "y: f32[5] = L[i:5] sum[k:4]{ q[i,k] * v[i,k] }"
    outcome = merge(Q, other, reader)
    assert (outcome.after, outcome.applied) == (outcome.before, [])


@pytest.mark.parametrize(
    ("extra", "outputs", "reason"),
    [
        ("", "y, q", "the product is an output of the program: its slice would be a copy"),
        ("z: f32[8] = L[o:8] exp(a[o,0])", "y, z", "a weight has other readers: joining would store it twice"),
    ],
)
def test_refuses(extra: str, outputs: str, reason: str):
    outcome = merge(Q, V, READER, extra, outputs=outputs)
    assert outcome.after is outcome.before
    assert outcome.refused == [reason]


def test_a_large_joined_weight_is_left_alone():
    assert merge(Q, V, READER, max_bytes=287).refused == ["the joined weight takes 288 bytes, more than max_bytes=287"]
    assert merge(Q, V, READER, max_bytes=288).refused == []


def test_one_product_alone_is_no_group():
    outcome = merge(Q, "y: f32[9] = L[i:9] q[i,0]")
    assert (outcome.after, outcome.refused) == (outcome.before, [])
