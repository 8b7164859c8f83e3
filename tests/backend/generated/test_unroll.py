"""Transforms by small matrices are written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.backend.generated.unroll import unrolled
from tpopt.ir import Compute, Program, aten, postorder
from tpopt.ir.interpret import interpret
from tpopt.ir.materialize import materialize
from tpopt.ir.parse import parse_program
from tpopt.ir.terms import Apply, Read, Reduce

DATA = """program p(x: f32[2,11,13,20], b: f32[6,6] structure toom_cook("data", 4, 3))
v: f32[6,6,2,3,4,20] = L[a:6,e:6,n:2,t:3,s:4,c:20]
  sum[j:6]{ b[a,j] * sum[k:6]{ b[e,k] *
  select(1 <= j+4*t < 12 & 1 <= k+4*s < 14, x[n,j+4*t-1,k+4*s-1,c], 0.0) } }
return v"""
SUMS = """program p(m: f32[6,6,2,3,4,20], b: f32[4,6] structure toom_cook("sums", 4, 3), z: f32[20], r: f32[2,11,13,20])
y: f32[2,11,13,20] = L[n:2,h:11,w:13,c:20]
  max(sum[a:6]{ b[h%4,a] * sum[e:6]{ b[w%4,e] * m[a,e,n,h//4,w//4,c] } } + z[c] + r[n,h,w,c], 0.0)
return y"""
PHASES = """program p(m: f32[4,3,2,17], b: f32[2,4] structure toom_cook("sums", 2, 3))
y: f32[11,17] = L[h:11,c:17] sum[a:4]{ b[h//2%2,a] * m[a,h//4,h%2,c] }
return y"""
CASES = {"data": (DATA, 36), "sums": (SUMS, 16), "phases": (PHASES, 2)}


def values(program: Program) -> list[torch.Tensor]:
    torch.manual_seed(0)
    found = []
    for tensor in program.inputs:
        formula = tensor.structure.kind == "toom_cook"
        shape = tuple(int(e) for e in tensor.shape)
        found.append(torch.from_numpy(materialize(tensor)).float() if formula else torch.randn(shape))
    return found


@pytest.mark.parametrize("name", CASES)
def test_no_sum_and_no_matrix_is_left(name: str):
    text, cases = CASES[name]
    (stage,) = parse_program(text).stages
    assert isinstance(stage, Compute)
    work = unrolled(stage)
    assert len(work.cases) == cases
    terms = postorder(*work.bodies)
    assert not any(isinstance(t, Reduce) for t in terms)
    assert not any(isinstance(t, Read) and t.tensor.name == "b" for t in terms)


def test_numbers_of_zero_and_one_cost_nothing():
    (stage,) = parse_program(DATA).stages
    assert isinstance(stage, Compute)
    terms = postorder(*unrolled(stage).bodies)
    assert sum(isinstance(t, Apply) and t.function == "mul" for t in terms) < 36 * 4
    assert len(terms) < 36 * 14  # the plain sums take 36 * 36 products


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_computes_what_the_algebra_says(name: str, threads: int):
    program = parse_program(CASES[name][0])
    given = values(program)
    fixed = tuple(n for n, t in enumerate(program.inputs) if t.structure.kind == "toom_cook")
    request = KernelRequest.of(program, fixed, Processor(threads=threads))
    result = GeneratedKernel(request, {n: given[n] for n in fixed})(*(g for n, g in enumerate(given) if n not in fixed))
    (expected,) = interpret(program, [aten.to_numpy(g) if hasattr(aten, "to_numpy") else g.numpy() for g in given])
    np.testing.assert_allclose(result.numpy(), expected, rtol=2e-5, atol=2e-5)


def test_a_matrix_whose_numbers_are_data_is_read():
    text = DATA.replace(' structure toom_cook("data", 4, 3)', "")
    (stage,) = parse_program(text).stages
    assert isinstance(stage, Compute)
    assert len(unrolled(stage).cases) == 1
