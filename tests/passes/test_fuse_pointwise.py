"""``fuse-pointwise``: composes where no element is read twice, and nowhere else."""

# ruff: noqa: E501 (a case is a line of program text)

from __future__ import annotations

import pytest
from support.rewriting import Outcome, run

from tpopt.passes.fuse_pointwise import FusePointwise


def fuse(*stages: str, outputs: str = "y", **options: int) -> Outcome:
    lines = "\n".join(("a: f32[4,6] = L[i:4,j:6] exp(x[i,j])", *stages))
    text = f"program p(x: f32[4,6], z: f32[4,6], n: i64[4,6])\n{lines}\nreturn {outputs}"
    return run(FusePointwise(**options), text)


@pytest.mark.parametrize(
    ("reader", "result"),
    [
        ("y: f32[4,6] = L[i:4,j:6] a[i,j] + z[i,j]", "y: f32[4,6] = L[i:4,j:6] exp(x[i,j]) + z[i,j]"),
        ("y: f32[6,4] = L[j:6,i:4] a[i,j] * 2.0", "y: f32[6,4] = L[j:6,i:4] exp(x[i,j]) * 2.0"),
        ("y: f32[4] = L[i:4] sum[k:6]{ a[i,k] }", "y: f32[4] = L[i:4] sum[k:6]{ exp(x[i,k]) }"),
        ("y: f32[4,3] = L[i:4,j:3] a[i,j] + 1.0", "y: f32[4,3] = L[i:4,j:3] exp(x[i,j]) + 1.0"),
        ("y: f32[4,1,6] = L[i:4,n:1,j:6] a[i,j] + 1.0", "y: f32[4,1,6] = L[i:4,n:1,j:6] exp(x[i,j]) + 1.0"),
    ],
)
def test_composes_what_is_read_once(reader: str, result: str):
    outcome = fuse(reader)
    assert outcome.stages == result
    assert outcome.applied == [("ComposePointwise", ("a", "y"))]


def test_chains_collapse():
    outcome = fuse("b: f32[4,6] = L[i:4,j:6] a[i,j] + 1.0", "y: f32[4,6] = L[i:4,j:6] sin(b[i,j])")
    assert outcome.stages == "y: f32[4,6] = L[i:4,j:6] sin(exp(x[i,j]) + 1.0)"


def test_two_results_of_one_reduction_read_once():
    outcome = fuse(
        "m: f32[4], y: i64[4] = L[i:4] argmax[k:6].0{ a[i,k], k }, argmax[k:6].1{ a[i,k], k }", outputs="m, y"
    )
    assert outcome.stages.startswith("m: f32[4], y: i64[4]")


@pytest.mark.parametrize(
    ("stages", "outputs", "reason"),
    [
        (["y: f32[4,6] = L[i:4,j:6] a[i,j] + 1.0"], "a, y", "the source is an output of the program"),
        (["b: f32[4] = L[i:4] a[i,0]", "y: f32[4] = L[i:4] a[i,1]"], "b, y", "the source has other readers"),
        (["y: f32[4,3] = L[i:4,j:3] a[i,j] * a[i,j+3]"], "y", "the source is read more than once"),
        (["y: f32[4,6] = L[i:4,j:6] a[i,j] * z[i,j] + f32(n[i,j]) * a[i,-j+5]"], "y", "the source is read more than once"),
        (["y: f32[5,4,6] = L[n:5,i:4,j:6] a[i,j] * 2.0"], "y", "the source is read more than once for an element"),
        (["y: f32[4,6] = L[i:4,j:6] sum[k:6]{ a[i,k] * z[i,j] }"], "y", "the source is read more than once for an element"),
        (["y: f32[4] = L[i:4] sum[k:6]{ a[i,k] } / max[k:6]{ a[i,k] }"], "y", "the source is read in more than one reduction"),
    ],
)  # fmt: skip
def test_refuses(stages: list[str], outputs: str, reason: str):
    outcome = fuse(*stages, outputs=outputs)
    assert reason in outcome.refused
    assert "exp(" not in outcome.stages.split("\n", 1)[1]


def test_terms_are_bounded():
    reader = "y: f32[4,6] = L[i:4,j:6] a[i,j] + z[i,j]"
    assert fuse(reader, max_terms=4).refused == ["the stage would have more than max_terms=4 terms"]
    assert fuse(reader, max_terms=5).refused == []


def test_reductions_are_no_sources():
    outcome = run(
        FusePointwise(),
        "program p(x: f32[4,6])\na: f32[4] = L[i:4] sum[k:6]{ x[i,k] }\ny: f32[4] = L[i:4] exp(a[i])\nreturn y",
    )
    assert (outcome.after, outcome.refused) == (outcome.before, [])
