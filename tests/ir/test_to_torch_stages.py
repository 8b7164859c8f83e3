"""Stages that are no loop nests, in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.brute import brute

from tpopt.errors import UnsupportedInput
from tpopt.ir import Opaque, Program, Scatter, Symbol, index, tensor
from tpopt.ir.dtypes import DType
from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch

F64 = torch.float64


def run(text: str, *inputs: torch.Tensor, **options: object) -> tuple[torch.Tensor, ...]:
    return to_torch(parse_program(text).validate(), **options)(*inputs)  # type: ignore[arg-type]


SCATTERS = {
    "add": "add into x L[i:5] at [t[i]{0:4},0] { v[i] }",
    "set": "set into x L[i:5] at [t[i]{0:4},1] { v[i] }",
    "mul": "mul into x L[i:5] at [t[i]{0:4},0] { v[i] }",
    "max": "max into x L[i:5] at [t[i]{0:4},0] { v[i] }",
    "min": "min into x L[i:5] at [t[i]{0:4},0] { v[i] }",
    "guarded": "add into x L[i:5] at [t[i]{0:4},0] if 1 <= i < 4 { v[i] }",
    "guarded out of range": "set into x L[i:5] at [i,0] if 0 <= i < 4 { v[i] }",
    "part": "set into x L[i:2,j:3] at [2*i+1,j] { v[i+j] }",
    "one value": "add into x L[i:5] at [0,2] { 1.0 }",
    "computed": "add into x L[i:4,j:3] at [3-i,j] { x[i,j] * v[i] }",
}


@pytest.mark.parametrize("text", SCATTERS.values(), ids=SCATTERS.keys())
def test_a_scatter_is_its_loop(text: str):
    program = parse_program(f"program p(x: f64[4,3], t: i64[5], v: f64[5])\ny: f64[4,3] = scatter {text}\nreturn y")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((4, 3)), "t": np.array([1, 3, 1, 0, 1]), "v": rng.standard_normal(5)}
    (stage,) = program.stages
    assert isinstance(stage, Scatter)
    (got,) = to_torch(program)(*(torch.from_numpy(arrays[t.name]) for t in program.inputs))
    np.testing.assert_allclose(got.numpy(), brute(stage, arrays)[0], rtol=1e-14)


def test_the_last_writer_wins_among_many():
    text = "program p(x: f64[1], v: f64[5000])\ny: f64[1] = scatter set into x L[i:5000] at [0] { v[i] }\nreturn y"
    assert run(text, torch.zeros(1, dtype=F64), torch.arange(5000, dtype=F64))[0].item() == 4999


def test_complex_products_are_scattered():
    stage = "y: c128[2] = scatter mul into x L[i:3] at [t[i]{0:2}] { v[i] }"
    text = f"program p(x: c128[2], t: i64[3], v: c128[3])\n{stage}\nreturn y"
    got = run(text, torch.tensor([2 + 0j, 3]), torch.tensor([0, 1, 0]), torch.tensor([1j, 2, 1j]))
    assert got[0].tolist() == [-2, 6]


SCAN = """program p(c: f64[3], xs: f64[T,3], w: f64[3])
symbol T in [0, inf]
h: f64[3], ys: f64[T,3] = scan[t:T](init=[c], xs=[xs], captures=[w]) {
  program step(h0: f64[3], x: f64[3], w0: f64[3])
  h1: f64[3] = L[i:3] h0[i] * w0[i] + x[i]
  y: f64[3] = L[i:3] h1[i] * 2.0
  return h1, y
}
return h, ys"""


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_scan(steps: int):
    c, w = torch.tensor([1.0, 2, 3], dtype=F64), torch.tensor([0.5, 1, 2], dtype=F64)
    xs = torch.arange(3.0 * steps, dtype=F64).reshape(steps, 3)
    last, ys = run(SCAN, c, xs, w)
    expected = []
    for x in xs:
        c = c * w + x
        expected.append(2 * c)
    assert torch.equal(last, c)
    assert torch.equal(ys, torch.stack(expected) if expected else torch.empty(0, 3, dtype=F64))


def test_a_scan_body_reads_its_step():
    step = Symbol("t", 0, 6)
    text = """program p(c: i64[])
    h: i64[] = scan[t:4](init=[c], xs=[], captures=[]) {
      program step(h0: i64[])
      symbol t in [0, 6]
      h1: i64[] = L[] h0[] * 10 + t
      return h1
    }
    return h"""
    assert run(text, torch.tensor(0))[0].item() == 123
    assert step.name == "t"


COND = """program p(q: bool[], x: f64[2])
y: f64[2] = cond(q, captures=[x]) {
  program yes(a: f64[2])
  b: f64[2] = L[i:2] a[i] + 1.0
  return b
} else {
  program no(a: f64[2])
  return a
}
return y"""


@pytest.mark.parametrize(("predicate", "expected"), [(True, [2.0, 3.0]), (False, [1.0, 2.0])])
def test_cond(predicate: bool, expected: list[float]):
    assert run(COND, torch.tensor(predicate), torch.tensor([1.0, 2.0], dtype=F64))[0].tolist() == expected


def test_sort_puts_nan_last_and_keeps_ties_in_order():
    text = "program p(x: f64[5])\nv: f64[5], i: i64[5] = sort(x, axis=0, descending=false, stable=true)\nreturn v, i"
    assert run(text, torch.tensor([2, float("nan"), 1, 2, 1], dtype=F64))[1].tolist() == [2, 4, 0, 3, 1]


@pytest.mark.parametrize("largest", [True, False])
def test_topk_takes_those_of_equals_that_torch_takes(largest: bool):
    flag = str(largest).lower()
    text = f"program p(x: f64[200])\nv: f64[90], i: i64[90] = topk(x, k=90, axis=0, largest={flag}, sorted=true)"
    x = torch.zeros(200, dtype=F64)
    x[3::9], x[60], x[70] = torch.randn(22, dtype=F64), float("nan"), float("inf")
    values, positions = run(f"{text}\nreturn v, i", x)
    expected = torch.topk(x, 90, largest=largest)
    assert torch.equal(positions, expected.indices)
    torch.testing.assert_close(values, expected.values, equal_nan=True)


def test_a_kernel_is_the_algebra_it_keeps():
    text = """program p(x: f64[2,3], w: f64[3,4])
    y: f64[2,4] = kernel gemm(x, w) defines {
      t: f64[2,4] = L[i:2,j:4] sum[k:3]{ x[i,k] * w[k,j] }
      y: f64[2,4] = L[i:2,j:4] max(t[i,j], 0.0)
    }
    t: f64[2,4] = L[i:2,j:4] y[i,j] + 1.0
    return t"""
    x, w = torch.tensor([[1.0, 2, 3], [-1, 0, 1]], dtype=F64), torch.eye(3, 4, dtype=F64)
    assert torch.equal(run(text, x, w)[0], (x @ w).relu() + 1)


def test_an_opaque_call_runs_in_the_evaluations_type():
    x = tensor("x", (3,), DType.F32)
    call = Opaque((tensor("y", (3,), DType.F32),), "aten._to_copy.default", (x,), (("dtype", DType.F32),))
    program = Program("p", (x,), (), (call,), call.outs)
    given = torch.tensor([1 / 3, 2 / 3, 1.0], dtype=F64)
    assert torch.equal(to_torch(program, dtype=F64)(given)[0], given)
    assert to_torch(program)(given)[0].dtype is torch.float32


def test_an_opaque_call_without_such_a_kernel_runs_in_its_own_type():
    x, w = tensor("x", (2, 8), DType.F32), tensor("w", (4, 8), DType.F32)
    args = (x, w, None, "none", (), "")
    call = Opaque((tensor("y", (2, 4), DType.F32),), "mkldnn._linear_pointwise.default", args)
    program = Program("p", (x, w), (), (call,), call.outs)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 8, generator=generator), torch.randn(4, 8, generator=generator)
    got = to_torch(program, dtype=F64)(a, b)[0]
    assert got.dtype is F64
    torch.testing.assert_close(got.float(), a @ b.T)


def test_an_output_whose_shape_depends_on_data_binds_its_symbol():
    n = Symbol("u0", 0, 4)
    x = tensor("x", (4,), DType.F32)
    call = Opaque((tensor("at", (n, 1), DType.I64),), "aten.nonzero.default", (x,))
    text_stage = parse_program(
        "program p(at: i64[u0,1])\nsymbol u0 in [0, 4]\ny: i64[u0] = L[i:u0] at[i,0] * 10\nreturn y"
    ).stages[0]
    program = Program("p", (x,), (), (call, text_stage), text_stage.outs, symbols=(n,)).validate()
    assert to_torch(program)(torch.tensor([0.0, 1, 0, 2]))[0].tolist() == [10, 30]
    assert index(n).text == "u0"


def test_lookups_are_checked_on_request():
    text = "program p(w: f32[6], t: i64[2])\ny: f32[2] = L[i:2] w[t[i]{0:6}]\nreturn y"
    with pytest.raises(UnsupportedInput, match=r"t holds 1…6, but it is used as an index within \[0, 6\)"):
        run(text, torch.zeros(6), torch.tensor([1, 6]), check=True)
