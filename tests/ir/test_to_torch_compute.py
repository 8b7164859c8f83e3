"""Compute stages in torch against the same stages evaluated point by point."""

# ruff: noqa: E501 (a case is a line of program text)

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.brute import brute

from tpopt.ir import Compute, Reduce
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch
from tpopt.ir.to_torch.compute import lower_compute, pieces
from tpopt.ir.to_torch.convolution import convolution
from tpopt.ir.to_torch.lowering import Lowering
from tpopt.ir.to_torch.setting import Setting
from tpopt.ir.to_torch.tape import Tape

READS = {
    "transposed": "x: f32[3,5] => y: f32[5,3] = L[i:5,j:3] x[j,i]",
    "part": "x: f32[9] => y: f32[3] = L[i:3] x[2*i+1]",
    "backwards": "x: f32[9] => y: f32[4] = L[i:4] x[-2*i+7]",
    "diagonal": "x: f32[5,5] => y: f32[5] = L[i:5] x[i,i]",
    "shifted diagonal": "x: f32[3,9] => y: f32[3,4] = L[i:3,j:4] x[i,i+2*j]",
    "window": "x: f32[2,11] => y: f32[2,4,3] = L[n:2,i:4,k:3] x[n,2*i+2*k]",
    "three iterators": "x: f32[60] => y: f32[3,4,5] = L[i:3,j:4,k:5] x[20*i+5*j+k]",
    "mixed directions": "x: f32[20] => y: f32[4,3] = L[i:4,j:3] x[5*i-2*j+4]",
    "backwards window": "x: f32[20] => y: f32[4,3] = L[i:4,j:3] x[-5*i-2*j+19]",
    "there and back": "x: f32[4,9] => y: f32[5,4] = L[i:5,t:4] x[t,i-t+3]",
    "there and back, guarded": "x: f32[4,2] => y: f32[5,4] = L[i:5,t:4] select(0 <= i-t < 2, x[t,i-t], 0.0)",
    "broadcast": "x: f32[3] => y: f32[2,3,4] = L[n:2,i:3,j:4] x[i]",
    "one row": "x: f32[3,4] => y: f32[4] = L[i:4] x[2,i]",
    "scalar": "x: f32[] => y: f32[2] = L[i:2] x[]",
    "extent one": "x: f32[1,4] => y: f32[1,4] = L[i:1,j:4] x[i,j]",
    "reshape": "x: f32[6,8] => y: f32[4,12] = L[i:4,j:12] x[(i*12+j)//8, (i*12+j)%8]",
    "flatten": "x: f32[2,3,4] => y: f32[2,12] = L[i:2,j:12] x[i, j//4, j%4]",
    "merge of swapped axes": "x: f32[2,4,3] => y: f32[2,12] = L[i:2,j:12] x[i, j%4, j//4]",
    "pixel shuffle": "x: f32[8,3,3] => y: f32[2,6,6] = L[c:2,i:6,j:6] x[4*c+2*(i%2)+j%2, i//2, j//2]",
    "channel shuffle": "x: f32[6,2] => y: f32[6,2] = L[i:6,j:2] x[3*(i%2)+i//2, j]",
    "roll": "x: f32[7,5] => y: f32[7,5] = L[i:7,j:5] x[(i+3)%7, (j+4)%5]",
    "uneven division": "x: f32[4] => y: f32[7] = L[i:7] x[i//2]",
    "product of iterators": "x: f32[10] => y: f32[4,4] = L[i:4,j:4] x[i*j]",
    "padding": "x: f32[4] => y: f32[9] = L[i:9] select(2 <= i < 6, x[i-2], 0.5)",
    "inner range": "x: f32[9] => y: f32[9] = L[i:9] select(3 <= i < 7, x[i], -1.0)",
    "nothing inside": "x: f32[4] => y: f32[3] = L[i:3] select(0 <= i-5 < 4, x[i-5], 2.0)",
    "triangle": "x: f32[4,4] => y: f32[4,4] = L[i:4,j:4] select(0 <= i-j < 4, x[i,j], 0.0)",
    "guarded gap": "x: f32[4] => y: f32[8] = L[i:8] select(0 <= i%2 < 1, x[i//2], 0.0)",
    "guarded far": "x: f32[4] => y: f32[3,3] = L[i:3,j:3] select(0 <= 1000*i+j < 4, x[1000*i+j], 0.0)",
    "concatenation": "x: f32[2,3] => y: f32[2,7] = L[i:2,j:7] select(0 <= j < 3, x[i,j], select(0 <= j < 6, x[i,j-3], x[i,0]))",
    "cut in the middle": "x: f32[9] => y: f32[9] = L[i:9] select(3 <= i < 5, x[i], x[8-i])",
    "cut by a multiple": "x: f32[9] => y: f32[9] = L[i:9] select(-7 <= -2*i < -1, x[i], x[8-i])",
    "iterator as value": "x: f32[3] => y: f32[3,4] = L[i:3,j:4] x[i] + f32(2*i+j)",
}
REDUCTIONS = {
    "sum": "x: f32[3,4] => y: f32[3] = L[i:3] sum[k:4]{ x[i,k] }",
    "sum of all": "x: f32[3,4] => y: f32[] = L[] sum[i:3,k:4]{ x[i,k] }",
    "sum that ignores an iterator": "x: f32[3] => y: f32[3] = L[i:3] sum[k:4]{ x[i] }",
    "product": "x: f32[3,4] => y: f32[3] = L[i:3] prod[k:4]{ x[i,k] }",
    "product that ignores an iterator": "x: f32[3] => y: f32[3] = L[i:3] prod[k:4,j:2]{ x[i] }",
    "max": "x: f32[3,4] => y: f32[4] = L[i:4] max[k:3]{ x[k,i] }",
    "min": "x: f32[3,4] => y: f32[4] = L[i:4] min[k:3]{ x[k,i] }",
    "max pool": "x: f32[2,7] => y: f32[2,4] = L[n:2,i:4] max[k:3]{ select(0 <= 2*i+k-1 < 7, x[n,2*i+k-1], -inf) }",
    "average pool": "x: f32[9,9] => y: f32[7,4] = L[i:7,j:4] sum[a:3,b:3]{ x[i+a,2*j+b] } * 0.25",
    "matrix product": "x: f32[3,4], w: f32[4,5] => y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] }",
    "batched product": "x: f32[2,3,4], w: f32[2,5,4] => y: f32[2,3,5] = L[b:2,i:3,j:5] sum[k:4]{ x[b,i,k] * w[b,j,k] }",
    "rows around columns": "x: f32[2,4,3], w: f32[5,4] => y: f32[2,5,3] = L[n:2,o:5,i:3] sum[k:4]{ x[n,k,i] * w[o,k] }",
    "dot": "x: f32[2,4], w: f32[2,4] => y: f32[2] = L[b:2] sum[k:4]{ x[b,k] * w[b,k] }",
    "outer product": "x: f32[3], w: f32[4] => y: f32[3,4] = L[i:3,j:4] sum[k:5]{ x[i] * w[j] }",
    "own sums": "x: f32[3,4], w: f32[5] => y: f32[3] = L[i:3] sum[k:4,l:5]{ x[i,k] * w[l] * 2.0 }",
    "three factors": "x: f32[3,4], w: f32[4,5], v: f32[5] => y: f32[3] = L[i:3] sum[k:4,l:5]{ x[i,k] * w[k,l] * v[l] }",
    "square": "x: f32[3,4] => y: f32[3,3] = L[i:3,j:3] sum[k:4]{ x[i,k] * x[j,k] }",
    "distances": "x: f32[3,4], w: f32[5,4] => y: f32[3,5] = L[i:3,j:5] sum[k:4]{ abs(x[i,k] - w[j,k]) }",
    "nested": "x: f32[3,4] => y: f32[3,4] = L[i:3,j:4] exp(x[i,j]) / sum[k:4]{ exp(x[i,k]) }",
    "welford": "x: f32[3,4] => y: f32[3], m: f32[3] = L[i:3] welford[k:4].0{ x[i,k], 0.0:f32, 1.0:f32 }, welford[k:4].1{ x[i,k], 0.0:f32, 1.0:f32 }",
    "logsumexp": "x: f32[3,4] => y: f32[3], m: f32[3] = L[i:3] logsumexp[k:4].0{ x[i,k], 1.0:f32 }, logsumexp[k:4].1{ x[i,k], 1.0:f32 }",
    "argmax": "x: f32[3,4] => y: f32[3], p: i64[3] = L[i:3] argmax[k:4].0{ x[i,k], k }, argmax[k:4].1{ x[i,k], k }",
    "argmin": "x: f32[3,4] => y: f32[3], p: i64[3] = L[i:3] argmin[k:4].0{ x[i,k], 3-k }, argmin[k:4].1{ x[i,k], 3-k }",
}
CONVOLUTIONS = {
    "plain": "x: f32[2,3,6], w: f32[4,3,3] => y: f32[2,4,4] = L[n:2,o:4,i:4] sum[c:3,r:3]{ x[n,c,i+r] * w[o,c,r] }",
    "padded": """x: f32[2,3,5,6], w: f32[4,3,3,2] => y: f32[2,4,3,4] = L[n:2,o:4,i:3,j:4] sum[c:3,r:3,q:2]{
        select(0 <= 2*i+r-1 < 5 & 0 <= j+2*q-1 < 6, x[n,c,2*i+r-1,j+2*q-1], 0.0) * w[o,c,r,q] }""",
    "guard around the product": """x: f32[3,5], w: f32[4,3,3] => y: f32[4,5] = L[o:4,i:5] sum[c:3,r:3]{
        select(0 <= i+r-1 < 5, x[c,i+r-1] * w[o,c,r], 0.0) }""",
    "backwards taps": "x: f32[3,7], w: f32[4,3,3] => y: f32[4,5] = L[o:4,i:5] sum[c:3,r:3]{ x[c,i-r+2] * w[o,c,r] }",
    "grouped": "x: f32[2,6,7], w: f32[8,3,3] => y: f32[2,2,4,5] = L[n:2,g:2,o:4,i:5] sum[c:3,r:3]{ x[n,3*g+c,i+r] * w[4*g+o,c,r] }",
    "depthwise": "x: f32[2,6,7], w: f32[6,3] => y: f32[2,6,5] = L[n:2,c:6,i:5] sum[r:3]{ x[n,c,i+r] * w[c,r] }",
    "along one axis": "x: f32[2,3,7,5], w: f32[4,3,3] => y: f32[2,4,5,5] = L[n:2,o:4,i:5,j:5] sum[c:3,r:3]{ x[n,c,i+r,j] * w[o,c,r] }",
    "one filter": "x: f32[2,7,4], w: f32[3] => y: f32[2,5,4] = L[n:2,i:5,j:4] sum[r:3]{ x[n,i+r,j] * w[r] }",
    "scaled weight": "x: f32[3,7], w: f32[4,3,3], s: f32[4] => y: f32[4,5] = L[o:4,i:5] sum[c:3,r:3]{ x[c,i+r] * w[o,c,r] * s[o] }",
    "channels last": "x: f32[2,6,3], w: f32[3,3,4] => y: f32[2,4,4] = L[n:2,i:4,o:4] sum[c:3,r:3]{ x[n,i+r,c] * w[r,c,o] }",
    "volume": """x: f32[2,4,5,4], w: f32[3,2,2,3,2] => y: f32[3,3,3,3] = L[o:3,i:3,j:3,k:3] sum[c:2,a:2,b:3,d:2]{
        x[c,i+a,j+b,k+d] * w[o,c,a,b,d] }""",
    "transposed": """x: f32[2,3,4], w: f32[3,5,4] => y: f32[2,5,8] = L[n:2,o:5,i:8] sum[c:3,r:4]{
        select(0 <= (i-r+1)%2 < 1 & 0 <= (i-r+1)//2 < 4, x[n,c,(i-r+1)//2], 0.0) * w[c,o,r] }""",
    "transposed in two axes": """x: f32[3,4,3], w: f32[3,2,3,2] => y: f32[2,10,4] = L[o:2,i:10,j:4] sum[c:3,r:3,q:2]{
        select(0 <= (i-r)%3 < 1 & 0 <= (i-r)//3 < 4 & 0 <= j-q < 3, x[c,(i-r)//3,j-q], 0.0) * w[c,o,r,q] }""",
    "transposed, forward taps": """x: f32[3,4], w: f32[3,4] => y: f32[8] = L[i:8] sum[c:3,r:4]{
        select(0 <= (i+r-2)%2 < 1 & 0 <= (i+r-2)//2 < 4, x[c,(i+r-2)//2], 0.0) * w[c,r] }""",
}
CONVOLUTIONS |= {
    "adjoint": """x: f32[2,3,4], w: f32[3,5,4] => y: f32[2,5,8] = L[n:2,o:5,i:8] sum[c:3,t:2]{
        select(0 <= (i+1)//2-t < 4, x[n,c,(i+1)//2-t], 0.0) * select(0 <= (i+1)%2+2*t < 4, w[c,o,(i+1)%2+2*t], 0.0) }""",
    "adjoint of a short kernel": """x: f32[3,4,5], w: f32[3,2,2,3] => y: f32[2,8,15] = L[o:2,i:8,j:15] sum[c:3]{
        x[c,i//2,j//3] * select(0 <= j%3 < 3, w[c,o,i%2,j%3], 0.0) }""",
    "adjoint in one axis": """x: f32[3,4,5], w: f32[3,2,3,3] => y: f32[2,9,7] = L[o:2,i:9,j:7] sum[c:3,t:2,q:3]{
        select(0 <= i//2-t < 4 & 0 <= j-q < 5, x[c,i//2-t,j-q], 0.0) * select(0 <= i%2+2*t < 3, w[c,o,i%2+2*t,q], 0.0) }""",
    "converted": """x: f16[3,7], w: f16[4,3,3] => y: f32[4,7] = L[o:4,i:7] sum[c:3,r:3]{
        f32(select(0 <= i+r-1 < 7, x[c,i+r-1], 0.0)) * f32(w[o,c,r]) }""",
    "groups by division": "x: f32[6,7], w: f32[8,3,3] => y: f32[8,5] = L[o:8,i:5] sum[c:3,r:3]{ x[3*(o//4)+c,i+r] * w[o,c,r] }",
    "weight gradient": "x: f32[2,3,9], g: f32[2,4,4] => y: f32[4,3,2] = L[f:4,c:3,r:2] sum[n:2,p:4]{ g[n,f,p] * x[n,c,2*p+r] }",
}
LOOKUPS = {
    "embedding": "w: f32[6,3], t: i64[2,4] => y: f32[2,4,3] = L[b:2,i:4,j:3] w[t[b,i]{0:6},j]",
    "gather": "w: f32[6,4], t: i64[2,4] => y: f32[2,4] = L[b:2,i:4] w[t[b,i]{0:6},i]",
    "in two axes": "w: f32[6,6], t: i64[4] => y: f32[4] = L[i:4] w[t[i]{0:6},5-t[i]{0:6}]",
    "separable": "w: f32[6,6], t: i64[4] => y: f32[4,4] = L[i:4,j:4] w[t[j]{0:6},t[i]{0:6}]",
    "single": "w: f32[6,3], t: i64[] => y: f32[3] = L[j:3] w[t[]{0:6},j]",
    "of a lookup": "w: f32[6], t: i64[6] => y: f32[6] = L[i:6] w[t[t[i]{0:6}]{0:6}]",
    "in a guard": "w: f32[6], t: i64[] => y: f32[6] = L[i:6] select(0 <= i < t[]{0:6}, w[i], 0.0)",
    "moved out of range": "w: f32[6], t: i64[4] => y: f32[4] = L[i:4] select(2 <= t[i]{0:6} < 6, w[t[i]{0:6}-2], 0.0)",
}
CASES = {**READS, **REDUCTIONS, **CONVOLUTIONS, **LOOKUPS}


def stage_and_arrays(case: str):
    inputs, stage = case.split("=>", 1)
    outs = ", ".join(part.split(":")[0].strip() for part in stage.split("=", 1)[0].split("],") if ":" in part)
    program = parse_program(f"program p({inputs.strip()})\n{stage.strip()}\nreturn {outs}")
    rng = np.random.default_rng(0)
    arrays = {}
    for tensor in program.inputs:
        shape = [int(e) for e in tensor.shape]
        arrays[tensor.name] = rng.integers(0, 6, shape) if tensor.dtype.is_integer else rng.standard_normal(shape)
    return program, arrays


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "generic"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_compute_is_what_its_points_are(case: str, fast: bool):
    program, arrays = stage_and_arrays(case)
    (stage,) = program.stages
    assert isinstance(stage, Compute)
    run = to_torch(program, dtype=torch.float64, fast=fast)
    got = run(*(torch.from_numpy(np.asarray(arrays[t.name])) for t in program.inputs))
    for value, expected in zip(got, brute(stage, arrays), strict=True):
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12, atol=1e-12)


def planned(case: str) -> tuple[Lowering, Compute]:
    (stage,) = stage_and_arrays(case)[0].stages
    assert isinstance(stage, Compute)
    return Lowering(Tape(), Setting(None, torch.device("cpu"), {}), stage.loops), stage


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolutions_are_recognised(case: str):
    low, stage = planned(case)
    (body,) = stage.bodies
    assert isinstance(body, Reduce)
    assert convolution(low, body) is not None


@pytest.mark.parametrize("name", ["matrix product", "batched product", "square", "own sums"])
def test_what_does_not_slide_is_no_convolution(name: str):
    low, stage = planned(REDUCTIONS[name])
    (body,) = stage.bodies
    assert isinstance(body, Reduce)
    assert convolution(low, body) is None


@pytest.mark.parametrize(
    "name",
    [
        "padding",
        "transposed",
        "window",
        "flatten",
        "merge of swapped axes",
        "channel shuffle",
        "reshape",
        "pixel shuffle",
        "roll",
    ],
)
def test_regrouping_reads_no_index_tensor_over_every_point(name: str):
    program, _ = stage_and_arrays(READS[name])
    plan = lower_compute(program.stages[0], Setting(None, torch.device("cpu"), {}))
    assert all(constant.dim() <= 1 for _, constant in plan.constants)


def test_a_concatenation_is_cut_into_its_parts():
    (stage,) = stage_and_arrays(READS["concatenation"])[0].stages
    assert isinstance(stage, Compute)
    found = pieces(stage.loops, stage.bodies[0])
    assert found is not None
    assert (found[0], [(p, q) for p, q, _ in found[1]]) == (1, [(0, 3), (3, 6), (6, 7)])


def test_a_large_intermediate_is_computed_in_chunks():
    program, arrays = stage_and_arrays(
        "x: f32[40,30], w: f32[50,30] => y: f32[40,50] = L[i:40,j:50] max[k:30]{ x[i,k] + w[j,k] }"
    )
    (stage,) = program.stages
    assert isinstance(stage, Compute)
    plan = lower_compute(stage, Setting(None, torch.device("cpu"), {}), most=10_000)
    x, w = (torch.from_numpy(arrays[n]) for n in "xw")
    assert torch.equal(plan({"x": x, "w": w})[0], (x[:, None] + w).amax(-1))
    assert sum(step.run is torch.add or len(step.args) == 2 for step in plan.steps) >= 6


@pytest.mark.parametrize("case", ["x: f32[0,4] => y: f32[4] = L[j:4] sum[i:0]{ x[i,j] * x[i,j] } + 1.0",
                                  "x: f32[0,4] => y: f32[0,4] = L[i:0,j:4] exp(x[i,j])"])  # fmt: skip
def test_empty_tensors(case: str):
    program, arrays = stage_and_arrays(case)
    (got,) = to_torch(program, dtype=torch.float64)(torch.from_numpy(arrays["x"]))
    assert torch.equal(
        got, torch.ones(4, dtype=torch.float64) if got.numel() else torch.empty(0, 4, dtype=torch.float64)
    )


IDENTITIES = {"sum": 0, "prod": 1, "max": -float("inf"), "min": float("inf")}


@pytest.mark.parametrize("monoid", IDENTITIES)
def test_an_empty_reduction_yields_the_identity(monoid: str):
    program, _ = stage_and_arrays(f"x: f32[3] => y: f32[3] = L[i:3] {monoid}[k:0]{{ x[i] }}")
    assert to_torch(program)(torch.zeros(3))[0].tolist() == [IDENTITIES[monoid]] * 3


def test_nan_wins_an_argmax_and_ties_go_to_the_first():
    program, _ = stage_and_arrays(REDUCTIONS["argmax"])
    rows = [[1.0, float("nan"), float("nan"), 2.0], [3.0, 5.0, 5.0, 1.0], [-float("inf")] * 4]
    assert to_torch(program)(torch.tensor(rows))[1].tolist() == [1, 1, 0]


def test_integers_keep_their_width():
    program, _ = stage_and_arrays("x: i8[4] => y: i8[] = L[] sum[i:4]{ x[i] }")
    (got,) = to_torch(program)(torch.tensor([100, 100, 0, 1], dtype=torch.int8))
    assert (got.dtype, got.item()) == (torch.int8, 201 - 256)


def test_complex_products():
    program, _ = stage_and_arrays(
        "x: c64[3,4], w: c64[4,5] => y: c64[3,5] = L[i:3,j:5] sum[k:4]{ conj(x[i,k]) * w[k,j] }"
    )
    x, w = (
        torch.randn(*s, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)) for s in ((3, 4), (4, 5))
    )
    torch.testing.assert_close(to_torch(program)(x, w)[0], x.conj() @ w)
