"""Compute stages against the same stages evaluated point by point, whole and cut into the smallest pieces."""

from __future__ import annotations

import numpy as np
import pytest
from support.brute import brute

from tpopt.ir import Compute, DType, Iter, Program, tensor, total
from tpopt.ir.exact import interpret_exact, random_field_inputs
from tpopt.ir.interpret import compute, contract, digits, interpret, pointwise, reductions
from tpopt.ir.interpret.reals import Reals
from tpopt.ir.interpret.state import State
from tpopt.ir.parse import parse_program
from tpopt.ir.text import print_stage

READS = {
    "transposed": "x: f32[3,5] => y: f32[5,3] = L[i:5,j:3] x[j,i]",
    "backwards with a step": "x: f32[9] => y: f32[4] = L[i:4] x[-2*i+7]",
    "diagonal of a window": "x: f32[9,9] => y: f32[4,3] = L[i:4,k:3] x[i+k,2*i+k]",
    "three iterators on one axis": "x: f32[60] => y: f32[3,4,5] = L[i:3,j:4,k:5] x[20*i+5*j+k]",
    "far apart on one axis": "x: f32[3002] => y: f32[3,2] = L[i:3,j:2] x[1500*i+j]",
    "rank zero": "x: f32[] => y: f32[2] = L[i:2] x[]",
    "constant position": "x: f32[3,4] => y: f32[4] = L[i:4] x[2,i]",
    "reshape": "x: f32[6,8] => y: f32[4,12] = L[i:4,j:12] x[(i*12+j)//8,(i*12+j)%8]",
    "reshape and shift": "x: f32[6,8] => y: f32[2,12] = L[i:2,j:12] x[(i*12+j)//8+2,(i*12+j)%8]",
    "roll": "x: f32[7,5] => y: f32[7,5] = L[i:7,j:5] x[(i+3)%7,(j+4)%5]",
    "repeat": "x: f32[4] => y: f32[7] = L[i:7] x[i//2]",
    "pixel shuffle": "x: f32[8,3,3] => y: f32[2,6,6] = L[c:2,i:6,j:6] x[4*c+2*(i%2)+j%2,i//2,j//2]",
    "product of iterators": "x: f32[10] => y: f32[4,4] = L[i:4,j:4] x[i*j]",
    "padded": "x: f32[4] => y: f32[9] = L[i:9] select(2 <= i < 6, x[i-2], 0.5)",
    "padded with infinity": "x: f32[2,4] => y: f32[2,9] = L[n:2,i:9] select(2 <= i < 6, x[n,i-2], -inf)",
    "a narrower guard than the tensor": "x: f32[9] => y: f32[9] = L[i:9] select(3 <= i < 7, x[i], -1.0)",
    "a guard that never holds": "x: f32[4] => y: f32[3] = L[i:3] select(0 <= i-5 < 4, x[i-5], 2.0)",
    "stuffed with zeros": "x: f32[4] => y: f32[8] = L[i:8] select(0 <= i%2 < 1, x[i//2], 0.0)",
    "triangle": "x: f32[4,4] => y: f32[4,4] = L[i:4,j:4] select(0 <= i-j < 4, x[i,j], 0.0)",
    "guarded by another axis": "x: f32[5,5] => y: f32[5,5] = L[i:5,j:5] select(i <= 2*j < 7, x[i,j], 0.25)",
    "guarded and divided": "x: f32[4] => y: f32[5,3] = L[i:5,t:3] select(0 <= i//2-t+1 < 4, x[i//2-t+1], 0.0)",
    "guarded conversion": "x: f16[4] => y: f32[6] = L[i:6] select(1 <= i < 5, f32(x[i-1]), 0.0)",
    "guarded function": "x: f32[4] => y: f32[6] = L[i:6] select(1 <= i < 5, exp(x[i-1]), 3.0)",
    "guard in a guard": "x: f32[4] => y: f32[6] = L[i:6] select(0 <= i < 4, select(1 <= i < 6, x[i-1], 7.0), 8.0)",
    "concatenation": "x: f32[2,3] => y: f32[2,7] = L[i:2,j:7] "
    "select(0 <= j < 3, x[i,j], select(0 <= j < 6, x[i,j-3], x[i,0]))",
    "concatenation in two axes": "x: f32[2,3] => y: f32[4,6] = L[i:4,j:6] "
    "select(0 <= i < 2 & 0 <= j < 3, x[i,j], select(2 <= i < 4 & 3 <= j < 6, x[i-2,j-3], 1.0))",
    "position as a value": "x: f32[3] => y: f32[3,4] = L[i:3,j:4] x[i] + f32(@(2*i+j//2))",
    "several outputs": "x: f32[3] => y: f32[3], z: f32[3] = L[i:3] exp(x[i]), exp(x[i]) * 2.0",
}  # fmt: skip
REDUCTIONS = {
    "an iterator that nothing reads": "x: f32[3] => y: f32[3] = L[i:3] sum[k:4]{ x[i] }",
    "empty sum": "x: f32[3] => y: f32[3] = L[i:3] sum[k:0]{ x[i] } + 1.0",
    "empty maximum": "x: f32[3] => y: f32[3] = L[i:3] max[k:0]{ x[i] }",
    "max pool": "x: f32[2,7] => y: f32[2,4] = L[n:2,i:4] max[k:3]{ select(0 <= 2*i+k-1 < 7, x[n,2*i+k-1], -inf) }",
    "average pool": "x: f32[9,9] => y: f32[7,4] = L[i:7,j:4] sum[a:3,b:3]{ x[i+a,2*j+b] } * 0.25",
    "product": "x: f32[3,4] => y: f32[3] = L[i:3] prod[k:4,j:2]{ x[i,k] }",
    "matrix product": "x: f32[3,4], w: f32[4,5] => y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] }",
    "batched product": "x: f32[2,3,4], w: f32[2,5,4] => y: f32[2,5,3] = L[b:2,j:5,i:3] sum[k:4]{ x[b,i,k] * w[b,j,k] }",
    "dot": "x: f32[2,4], w: f32[2,4] => y: f32[2] = L[b:2] sum[k:4]{ x[b,k] * w[b,k] }",
    "own sums": "x: f32[3,4], w: f32[5] => y: f32[3] = L[i:3] sum[k:4,l:5]{ x[i,k] * w[l] * 2.0 }",
    "outer product": "x: f32[3], w: f32[4] => y: f32[3,4] = L[i:3,j:4] sum[k:5]{ x[i] * w[j] }",
    "three factors": "x: f32[3,4], w: f32[4,5], v: f32[5] => y: f32[3] = L[i:3] sum[k:4,l:5]{ x[i,k] * w[k,l] * v[l] }",
    "four factors, one axis in all": "x: f32[3,4], w: f32[4,5], v: f32[4], u: f32[4,5] => "
    "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] * v[k] * u[k,j] }",
    "sums and differences of products": "x: f32[3,4], w: f32[4,5], v: f32[5] => "
    "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] - v[j] * x[i,k] + 2.0 }",
    "negated": "x: f32[3,4], w: f32[4] => y: f32[3] = L[i:3] sum[k:4]{ -(x[i,k] * -w[k]) - x[i,k] * w[k] }",
    "sum of sums": "x: f32[3,4,2], w: f32[4,2] => y: f32[3] = L[i:3] sum[k:4]{ sum[l:2]{ x[i,k,l] * w[k,l] } }",
    "weighted sum of sums": "x: f32[3,4,2], w: f32[4,2], v: f32[4] => "
    "y: f32[3] = L[i:3] sum[k:4]{ v[k] * sum[l:2]{ x[i,k,l] * w[k,l] } }",
    "squares of differences": "x: f32[3,4] => "
    "y: f32[3,3] = L[i:3,j:3] sum[k:4]{ (x[i,k] - x[j,k]) * (x[i,k] - x[j,k]) }",
    "distances": "x: f32[3,4], w: f32[5,4] => y: f32[3,5] = L[i:3,j:5] sum[k:4]{ abs(x[i,k] - w[j,k]) }",
    "function of a factor": "x: f32[3,4], w: f32[4,5] => "
    "y: f32[3,5] = L[i:3,j:5] sum[k:4]{ max(x[i,k], 0.0) * w[k,j] }",
    "softmax": "x: f32[3,4] => y: f32[3,4] = L[i:3,j:4] "
    "exp(x[i,j] - max[k:4]{ x[i,k] }) / sum[k:4]{ exp(x[i,k] - max[l:4]{ x[i,l] }) }",
    "integer product": "x: i32[3,4], w: i32[4,5] => y: i32[3,5] = L[i:3,j:5] sum[k:4]{ x[i,k] * w[k,j] }",
    "welford": "x: f32[3,4] => y: f32[3], m: f32[3], n: f32[3] = L[i:3] welford[k:4].0{ x[i,k], 0.0:f32, 1.0:f32 }, "
    "welford[k:4].1{ x[i,k], 0.0:f32, 1.0:f32 }, welford[k:4].2{ x[i,k], 0.0:f32, 1.0:f32 }",
    "logsumexp": "x: f32[3,4] => y: f32[3], m: f32[3] = L[i:3] "
    "logsumexp[k:4].0{ x[i,k], 1.0:f32 }, logsumexp[k:4].1{ x[i,k], 1.0:f32 }",
    "argmax": "x: f32[3,4] => y: f32[3], p: i64[3] = L[i:3] argmax[k:4].0{ x[i,k], k }, argmax[k:4].1{ x[i,k], k }",
    "argmin of ties": "x: f32[3,4] => p: i64[3] = L[i:3] argmin[k:4,l:2].1{ x[i,k] * 0.0, 2*k+l }",
}  # fmt: skip
CONVOLUTIONS = {
    "padded and strided": "x: f32[2,3,5,6], w: f32[4,3,3,2] => y: f32[2,4,3,4] = L[n:2,o:4,i:3,j:4] sum[c:3,r:3,q:2]{ "
    "select(0 <= 2*i+r-1 < 5 & 0 <= j+2*q-1 < 6, x[n,c,2*i+r-1,j+2*q-1], 0.0) * w[o,c,r,q] }",
    "guard around the product": "x: f32[3,5], w: f32[4,3,3] => y: f32[4,5] = L[o:4,i:5] sum[c:3,r:3]{ "
    "select(0 <= i+r-1 < 5, x[c,i+r-1] * w[o,c,r], 0.0) }",
    "depthwise": "x: f32[2,6,7,7], w: f32[6,3,3] => "
    "y: f32[2,6,5,5] = L[n:2,c:6,i:5,j:5] sum[r:3,q:3]{ x[n,c,i+r,j+q] * w[c,r,q] }",
    "grouped": "x: f32[6,7], w: f32[8,3,3] => y: f32[8,5] = L[o:8,i:5] sum[c:3,r:3]{ x[3*(o//4)+c,i+r] * w[o,c,r] }",
    "transposed by zeros": "x: f32[2,3,4], w: f32[3,5,4] => y: f32[2,5,8] = L[n:2,o:5,i:8] sum[c:3,r:4]{ "
    "select(0 <= (i-r+1)%2 < 1 & 0 <= (i-r+1)//2 < 4, x[n,c,(i-r+1)//2], 0.0) * w[c,o,r] }",
    "transposed by phases": "x: f32[2,3,4], w: f32[3,5,4] => y: f32[2,5,7] = L[n:2,o:5,i:7] sum[c:3,t:2]{ "
    "select(0 <= (i+1)//2-t < 4, x[n,c,(i+1)//2-t], 0.0) * select(0 <= (i+1)%2+2*t < 4, w[c,o,(i+1)%2+2*t], 0.0) }",
    "transposed in two axes": "x: f32[3,4,5], w: f32[3,2,3,3] => y: f32[2,9,7] = L[o:2,i:9,j:7] sum[c:3,t:2,q:3]{ "
    "select(0 <= i//2-t < 4 & 0 <= j-q < 5, x[c,i//2-t,j-q], 0.0) * select(0 <= i%2+2*t < 3, w[c,o,i%2+2*t,q], 0.0) }",
    "banded scores": "q: f32[2,9,3], k: f32[2,9,3] => y: f32[2,9,5] = L[h:2,i:9,j:5] sum[d:3]{ "
    "select(2 <= i+j < 11, q[h,i,d] * k[h,i+j-2,d], 0.0) }",
    "banded average": "p: f32[9,5], v: f32[9,3] => y: f32[9,3] = L[i:9,d:3] sum[j:5]{ "
    "select(2 <= i+j < 11, p[i,j] * v[i+j-2,d], 0.0) }",
    "causal sum": "x: f32[6], w: f32[6] => y: f32[6] = L[i:6] sum[j:6]{ select(0 <= i-j < 6, x[j], 0.0) * w[j] }",
}  # fmt: skip
LOOKUPS = {
    "embedding": "w: f32[6,3], t: i64[2,4] => y: f32[2,4,3] = L[b:2,i:4,j:3] w[t[b,i]{0:6},j]",
    "gather": "w: f32[6,4], t: i64[2,4] => y: f32[2,4] = L[b:2,i:4] w[t[b,i]{0:6},i]",
    "in two axes": "w: f32[6,6], t: i64[4] => y: f32[4] = L[i:4] w[t[i]{0:6},5-t[i]{0:6}]",
    "separable": "w: f32[6,6], t: i64[4] => y: f32[4,4] = L[i:4,j:4] w[t[j]{0:6},t[i]{0:6}]",
    "of a lookup": "w: f32[6], t: i64[6] => y: f32[6] = L[i:6] w[t[t[i]{0:6}]{0:6}]",
    "single": "w: f32[6,3], t: i64[] => y: f32[3] = L[j:3] w[t[]{0:6},j]",
    "in a guard": "w: f32[6], t: i64[] => y: f32[6] = L[i:6] select(0 <= i < t[]{0:6}, w[i], 0.0)",
    "moved out of range": "w: f32[6], t: i64[4] => y: f32[4] = L[i:4] select(2 <= t[i]{0:6} < 6, w[t[i]{0:6}-2], 0.0)",
    "summed": "w: f32[6,3], t: i64[4,2], v: f32[2] => y: f32[4,3] = L[i:4,j:3] sum[k:2]{ w[t[i,k]{0:6},j] * v[k] }",
    "beside a window": "w: f32[6,9], t: i64[4] => y: f32[4,7] = L[i:4,j:7] sum[k:3]{ w[t[i]{0:6},j+k] }",
}  # fmt: skip
CASES = {**READS, **REDUCTIONS, **CONVOLUTIONS, **LOOKUPS}


def parsed(case: str) -> Program:
    inputs, stage = (part.strip() for part in case.split("=>"))
    outs = ", ".join(part.split(":")[0].strip() for part in stage.split("=", 1)[0].split("],") if ":" in part)
    return parse_program(f"program p({inputs})\n{stage}\nreturn {outs}")


@pytest.fixture(params=["whole", "cut"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Every limit of the engine as it is, or so small that everything is cut into pieces."""
    if request.param == "cut":
        cut_everything(monkeypatch)


def cut_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {compute: {"_PIECE": 4, "_RESULTS": 3}, reductions: {"_PIECE": 3, "_WINDOW": 2, "_FACTOR": 4},
             contract: {"_ELEMENTS": 7, "_WINDOW": 2}, pointwise: {"_GATHERED": 2}, digits: {"_POINTS": 0}}  # fmt: skip
    for module, values in small.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_stage_is_what_its_points_are(case: str):
    program = parsed(case)
    rng = np.random.default_rng(0)
    arrays = {}
    for t in program.inputs:
        shape = [int(e) for e in t.shape]
        arrays[t.name] = rng.integers(0, 6, shape) if t.dtype.is_integer else rng.standard_normal(shape)
    (stage,) = program.stages
    assert isinstance(stage, Compute)
    for value, expected in zip(interpret(program, arrays), brute(stage, arrays), strict=True):
        assert value.shape == expected.shape
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_pieces_change_nothing_over_the_field(case: str, monkeypatch: pytest.MonkeyPatch):
    program = parsed(case)
    inputs = random_field_inputs(program, 1) | {
        t.name: np.full([int(e) for e in t.shape], 4) for t in program.inputs if t.name == "t"
    }
    whole = interpret_exact(program, inputs)
    cut_everything(monkeypatch)
    for a, b in zip(whole, interpret_exact(program, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def stage_of(case: str) -> tuple[State, Compute]:
    program = parsed(case)
    (stage,) = program.stages
    assert isinstance(stage, Compute)
    return State(
        Reals(), lambda p, t: np.zeros(0), None, tensors={t.name: np.zeros(t.shape) for t in program.inputs}
    ), stage


def test_a_concatenation_is_cut_where_its_guards_change():
    state, stage = stage_of(
        "x: f32[9] => y: f32[9] = L[i:9] select(3 <= i < 5, x[i], select(-13 <= -2*i < 0, x[8-i], x[0]))"
    )
    (loop,), terms = stage.loops, state.terms(stage)
    box = {loop: (0, 9)}
    assert [r[loop] for r in compute._regions(state.scope(terms, box), stage, box)] == [
        (0, 1),
        (1, 3),
        (3, 5),
        (5, 7),
        (7, 9),
    ]


def test_phases_of_a_transposed_convolution_read_without_quotients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digits, "_POINTS", 0)
    state, stage = stage_of(CONVOLUTIONS["transposed by phases"].replace("7", "8"))
    parts = digits.split_loops(stage, state.terms(stage), {})
    assert [p.ranges[2] for p in parts] == [(0, 1), (1, 7), (7, 8)]
    assert "//" not in str(
        parse_program(f"program p(x: f32[2,3,4], w: f32[3,5,4])\n{print_stage(parts[1].stage)}\nreturn y")
    )


def test_a_guard_protects_a_sum_from_what_is_not_finite():
    program = parsed(CONVOLUTIONS["causal sum"])
    split = parsed("x: f32[6], w: f32[6] => y: f32[6] = L[i:6] sum[j:6]{ select(0 <= i-j < 6, x[j] * w[j], 0.0) }")
    arrays = {"x": np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.inf]), "w": np.ones(6)}
    for p in (program, split):
        assert interpret(p, arrays)[0].tolist() == [1.0, 3.0, 6.0, 10.0, 15.0, np.inf]


def test_an_inner_sum_may_use_the_name_of_a_loop():
    k, i = Iter("k", 4), Iter("i", 3)
    x, v, w = tensor("x", (3, 4), DType.F64), tensor("v", (3, 4), DType.F64), tensor("w", (4,), DType.F64)
    body = total([k], x[i, k] * w[k] + total([i], v[i, k] * x[i, k]))
    stage = Compute((tensor("y", (3,), DType.F64),), (i,), (body,))
    a, b, c = (np.random.default_rng(n).standard_normal(s) for n, s in enumerate([(3, 4), (3, 4), (4,)]))
    (y,) = interpret(Program("p", (x, v, w), (), (stage,), stage.outs), [a, b, c])
    np.testing.assert_allclose(y, a @ c + (a * b).sum(), rtol=1e-14)
