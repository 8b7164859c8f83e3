"""``collapse-deltas``: sums that a guard pins, and sums that only look like it."""

from __future__ import annotations

import pytest
from support.rewriting import run

from tpopt.passes.collapse_deltas import CollapseDeltas

TEXT = """program p(x: f32[9], z: f32[9,9], n: i64[8])
y: f32[8] = L[i:8] {body}
return y"""


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("sum[t:9]{ select(0 <= i-t < 1, x[t], 0.0) }", "x[i]"),
        ("sum[t:9]{ select(2 <= t-i < 3, x[t], 0.0) }", "select(-2 <= i < 7, x[i+2], 0.0)"),
        ("sum[t:4]{ select(0 <= i-t < 1, x[t], 0.0) }", "select(0 <= i < 4, x[i], 0.0)"),
        ("sum[t:9]{ select(0 <= t-n[i]{0:9} < 1, x[t], 0.0) }", "x[n[i]{0:9}]"),
        ("sum[t:9,u:9]{ select(0 <= i-t < 1, z[t,u], 0.0) }", "sum[u:9]{ z[i,u] }"),
        ("sum[t:9,u:9]{ select(0 <= i-t < 1 & 0 <= t-u < 1, z[t,u], 0.0) }", "z[i,i]"),
        ("sum[t:9]{ select(0 <= i-t < 1 & 3 <= t < 5, x[t], 0.0) } + 1.0", "select(3 <= i < 5, x[i], 0.0) + 1.0"),
    ],
)
def test_collapses(body: str, result: str):
    outcome = run(CollapseDeltas(), TEXT.format(body=body))
    assert outcome.stages == f"y: f32[8] = L[i:8] {result}"


@pytest.mark.parametrize(
    "body",
    [
        "sum[t:9]{ select(0 <= i-t < 2, x[t], 0.0) }",
        "sum[t:9]{ select(0 <= i-2*t < 1, x[t], 0.0) }",
        "sum[t:9]{ select(0 <= i-t < 1, x[t], 1.0) }",
        "max[t:9]{ select(0 <= i-t < 1, x[t], 0.0) }",
        "sum[t:9]{ select(0 <= t//2-i < 1, x[t], 0.0) }",
        "sum[t:9]{ select(0 <= t+t//2-i < 1, x[t], 0.0) }",
        "sum[t:9]{ select(3 <= i < 4, x[t], 0.0) }",
    ],
)
def test_leaves_alone(body: str):
    outcome = run(CollapseDeltas(), TEXT.format(body=body))
    assert (outcome.after, outcome.applied) == (outcome.before, [])
