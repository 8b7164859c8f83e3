"""Generated kernels against the program's own evaluation, at sizes that are no multiples of anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.generated import program, run
from support.kernel_cases import CASES, difference, inputs

from tpopt.backend.build.pool import build_pool
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.errors import KernelBuildFailed
from tpopt.ir.to_torch import to_torch


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_kernel_agrees_with_its_algebra(case: str, threads: int):
    body, outs, shapes = CASES[case]
    given = inputs(shapes)
    exact = to_torch(program(body, outs, **given), dtype=torch.float64)(*given.values())
    assert difference(run(body, outs, threads=threads, **given), exact) <= (1e-5 if case == "a long sum" else 2e-6)


@pytest.mark.parametrize("case", [c for c in CASES if "w" in CASES[c][2]])
def test_a_constant_may_be_laid_out_anew(case: str):
    body, outs, shapes = CASES[case]
    given = inputs(shapes)
    expected = to_torch(program(body, outs, **given))(*given.values())
    assert difference(run(body, outs, constants=("w",), **given), expected) <= 2e-6


@pytest.mark.parametrize("name", ["float64", "float16", "bfloat16"])
def test_other_floats(name: str):
    kind = {"float64": "f64", "float16": "f16", "bfloat16": "bf16"}[name]
    given = inputs({"x": (5, 21), "z": (5, 21)}, getattr(torch, name))
    results = run(f"y: {kind}[5,21] = L[i:5,j:21] x[i,j] * z[i,j] + x[i,j]", **given)
    expected = given["x"] * given["z"] + given["x"]  # half types are rounded after each operation, as torch rounds them
    assert difference(results, (expected,)) <= (1e-12 if name == "float64" else 0.0)


def test_complex_numbers():
    x, z = (torch.randn(5, 21, dtype=torch.complex64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    (y,) = run("y: c64[5] = L[i:5] sum[k:21]{ x[i,k] * z[i,k] }", x=x, z=z)
    torch.testing.assert_close(y, (x * z).sum(1))


@pytest.mark.parametrize("columns", [3, 12, 16, 37, 64])
def test_matrix_products_of_complex_numbers(columns: int):
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(*s, dtype=torch.complex64, generator=generator) for s in ((19, 40), (40, columns)))
    (y,) = run(f"y: c64[19,{columns}] = L[i:19,j:{columns}] sum[k:40]{{ x[i,k] * z[k,j] }}", x=x, z=z)
    torch.testing.assert_close(y, x @ z)


@pytest.mark.parametrize("columns", [12, 64])
def test_products_of_real_and_complex_numbers(columns: int):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(19, 40, generator=generator)
    z = torch.randn(40, columns, dtype=torch.complex64, generator=generator)
    (y,) = run(f"y: c64[19,{columns}] = L[i:19,j:{columns}] sum[k:40]{{ c64(x[i,k]) * z[k,j] }}", x=x, z=z)
    torch.testing.assert_close(y, x.to(torch.complex64) @ z)
    (y,) = run(f"y: f32[19,{columns}] = L[i:19,j:{columns}] real(sum[k:40]{{ z[k,j] * c64(x[i,k]) }}) * 2.0", x=x, z=z)
    torch.testing.assert_close(y, (x.to(torch.complex64) @ z).real * 2)


def test_inputs_of_any_strides():
    x = torch.randn(37, 21).t()
    (y,) = run("y: f32[21,37] = L[i:21,j:37] x[i,j] * 2.0", x=x)
    assert torch.equal(y, x * 2)


def test_a_slice_that_starts_anywhere():
    x = torch.randn(100)[3:90]
    (y,) = run("y: f32[87] = L[i:87] x[i] * 2.0", x=x)
    assert torch.equal(y, x * 2)


def test_an_index_that_is_data():
    x, at = torch.randn(10, 33), torch.tensor([3, 9, 0])
    (y,) = run("y: f32[3,33] = L[i:3,j:33] x[at[i]{0:10},j]", x=x, at=at)
    assert torch.equal(y, x[at])


@pytest.mark.parametrize("bad", [10, -1])
def test_an_index_out_of_range_is_an_error(bad: int):
    with pytest.raises(IndexError, match="expected 0 <= index < 10"):
        run("y: f32[3,33] = L[i:3,j:33] x[at[i]{0:10},j]", x=torch.randn(10, 33), at=torch.tensor([3, bad, 0]))


GUARDED = "y: f32[5] = L[i:5] select(0 <= i < 3, x[at[i]{0:10}], -1.0)"


def test_an_index_is_looked_up_only_where_its_guard_holds():
    """Positions 3 and 4 lie beyond the table, and what lies there in memory is no index."""
    x, table = torch.randn(10), torch.tensor([3, 9, 0, 2**40, 2**40])
    (y,) = run(GUARDED, x=x, at=table[:3])
    assert y.tolist() == [*x[table[:3]].tolist(), -1.0, -1.0]


def test_an_index_under_a_guard_that_holds_is_checked():
    with pytest.raises(IndexError, match="expected 0 <= index < 10"):
        run(GUARDED, x=torch.randn(10), at=torch.tensor([3, 10, 0]))


def test_an_index_that_is_data_may_be_divided():
    x, at = torch.randn(5, 33), torch.tensor([3, 9, 0])
    (y,) = run("y: f32[3,33] = L[i:3,j:33] x[at[i]{0:10}//2,j]", x=x, at=at)
    assert torch.equal(y, x[at // 2])


def test_a_reduction_of_nothing_is_its_identity():
    s, m = run("s: f32[3], m: f32[3] = L[i:3] sum[k:0]{ x[i] }, max[k:0]{ x[i] }", "s, m", x=torch.ones(3))
    assert (s.tolist(), m.tolist()) == ([0.0] * 3, [float("-inf")] * 3)


def _no_memory(_: KernelRequest) -> Path:
    raise KernelBuildFailed("no memory")


def test_inputs_are_copied_where_no_kernel_can_be_built_for_their_strides():
    """The dense form is there already; a second build fails."""
    x = torch.randn(37, 21)
    request = KernelRequest.of(program("y: f32[21,37] = L[i:21,j:37] x[i,j] * 2.0", "y", x=x.t()), (), Processor())
    dense = build_pool().submit(request.build()).result().path
    made = GeneratedKernel(request, {}, lambda wanted: _no_memory(wanted) if wanted.strides else dense)
    assert torch.equal(made(x.t()), x.t() * 2)


def test_a_build_that_fails_for_dense_inputs_is_an_error():
    request = KernelRequest.of(program("y: f32[4] = L[i:4] x[i]", "y", x=torch.randn(4)), (), Processor())
    with pytest.raises(KernelBuildFailed, match="no memory"):
        GeneratedKernel(request, {}, _no_memory)(torch.randn(4))


def test_a_request_knows_the_program_that_its_text_says():
    text = "m: f32[21] = L[i:21] max[j:37]{ x[i,j] }\ny: f32[21,37] = L[i:21,j:37] exp(x[i,j] - m[i])"
    made = KernelRequest.of(program(text, "y", x=torch.zeros(21, 37)), (), Processor())
    parsed = KernelRequest.decode(made.encode()).program
    assert (parsed.inputs, parsed.stages, parsed.outputs) == (
        made.program.inputs,
        made.program.stages,
        made.program.outputs,
    )
