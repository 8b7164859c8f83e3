"""Generated kernels against the program's own evaluation, at sizes that are no multiples of anything."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
import torch
from support.generated import program, run

from tpopt.backend.build.pool import Built
from tpopt.backend.generated import kernel
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.errors import KernelBuildFailed
from tpopt.ir.to_torch import to_torch

CASES: dict[str, tuple[str, str, dict[str, tuple[int, ...]]]] = {
    "pointwise with a broadcast": ("y: f32[5,37] = L[i:5,j:37] x[i,j] * 2.0 + b[j]", "y", {"x": (5, 37), "b": (37,)}),
    "a transpose": ("y: f32[37,21] = L[i:37,j:21] x[j,i]", "y", {"x": (21, 37)}),
    "a flip": ("y: f32[3,19] = L[i:3,j:19] x[i,18-j]", "y", {"x": (3, 19)}),
    "a strided slice": ("y: f32[3,9] = L[i:3,j:9] x[i,2*j+1]", "y", {"x": (3, 19)}),
    "a joined axis": ("y: f32[5,48] = L[i:5,j:48] x[j//16,i,j%16]", "y", {"x": (3, 5, 16)}),
    "an odd joined axis": ("y: f32[5,21] = L[i:5,j:21] x[j//7,i,j%7]", "y", {"x": (3, 5, 7)}),
    "padding": ("y: f32[4,25] = L[i:4,j:25] select(3 <= j < 20, x[i,j-3], 7.0)", "y", {"x": (4, 17)}),
    "two parts side by side": (
        "y: f32[4,25] = L[i:4,j:25] select(0 <= j < 18, x[i,j], z[i,j-18])",
        "y",
        {"x": (4, 18), "z": (4, 7)},
    ),
    "a sum of rows": ("y: f32[7] = L[i:7] sum[k:301]{ x[i,k] }", "y", {"x": (7, 301)}),
    "a sum of columns": ("y: f32[301] = L[i:301] sum[k:7]{ x[k,i] }", "y", {"x": (7, 301)}),
    "a long sum": ("y: f32[3] = L[i:3] sum[k:5000]{ x[i,k] }", "y", {"x": (3, 5000)}),
    "the largest": ("y: f32[7] = L[i:7] max[k:45]{ x[i,k] }", "y", {"x": (7, 45)}),
    "where the largest is": (
        "y: f32[7], p: i64[7] = L[i:7] argmax[k:45].0{ x[i,k], @(k) }, argmax[k:45].1{ x[i,k], @(k) }",
        "y, p",
        {"x": (7, 45)},
    ),
    "mean and variance": (
        (
            "m: f32[6], v: f32[6] = L[i:6] welford[k:77].0{ x[i,k], 0.0:f32, 1.0:f32 }, "
            "welford[k:77].1{ x[i,k], 0.0, 1.0:f32 }"
        ),
        "m, v",
        {"x": (6, 77)},
    ),
    "a product of matrices": (
        "y: f32[13,29] = L[i:13,j:29] sum[k:31]{ x[i,k] * w[k,j] }",
        "y",
        {"x": (13, 31), "w": (31, 29)},
    ),
    "a product with transposed weights": (
        "y: f32[13,29] = L[i:13,j:29] sum[k:31]{ x[i,k] * w[j,k] } + b[j]",
        "y",
        {"x": (13, 31), "w": (29, 31), "b": (29,)},
    ),
    "a convolution": (
        (
            "y: f32[2,5,9,11] = L[n:2,o:5,h:9,v:11] sum[c:3,a:3,b:3]{ select(0 <= h+a-1 < 9 & 0 <= v+b-1 < 11, "
            "x[n,c,h+a-1,v+b-1], 0.0) * w[o,c,a,b] }"
        ),
        "y",
        {"x": (2, 3, 9, 11), "w": (5, 3, 3, 3)},
    ),
    "a depthwise convolution with strides": (
        (
            "y: f32[6,5,5] = L[c:6,h:5,v:5] sum[a:3,b:3]{ select(1 <= 2*h+a < 10 & 1 <= 2*v+b < 10, "
            "x[c,2*h+a-1,2*v+b-1], 0.0) * w[c,a,b] }"
        ),
        "y",
        {"x": (6, 9, 9), "w": (6, 3, 3)},
    ),
    "softmax": (
        (
            "t: f32[9], s: f32[9] = L[i:9] logsumexp[k:33].0{ x[i,k], 1.0:f32 }, logsumexp[k:33].1{ x[i,k], 1.0:f32 }\n"
            "y: f32[9,33] = L[i:9,j:33] exp(x[i,j] - t[i]) / s[i]"
        ),
        "y",
        {"x": (9, 33)},
    ),
    "a residual that others need too": (
        (
            "a: f32[9,33] = L[i:9,j:33] x[i,j] + z[i,j]\n"
            "m: f32[9] = L[i:9] sum[k:33]{ a[i,k] }\n"
            "y: f32[9,33] = L[i:9,j:33] a[i,j] - m[i]"
        ),
        "y, a",
        {"x": (9, 33), "z": (9, 33)},
    ),
}


def inputs(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return {n: torch.randn(s, generator=drawn).to(dtype) for n, s in shapes.items()}


def difference(results: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """The largest difference, relative where the expected value is above 1; NaN where a NaN is not expected."""
    assert [(r.shape, r.dtype) for r in results] == [(e.shape, r.dtype) for r, e in zip(results, expected, strict=True)]
    off = [
        (r.double() - e.double()).abs() / e.double().abs().clamp(min=1.0)
        for r, e in zip(results, expected, strict=True)
    ]
    return max(float(d.max()) for d in off)


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


def test_inputs_are_copied_where_no_kernel_can_be_built_for_their_strides(monkeypatch):
    """The dense form is there already; a second build fails."""
    x = torch.randn(37, 21)
    request = KernelRequest.of(program("y: f32[21,37] = L[i:21,j:37] x[i,j] * 2.0", "y", x=x.t()), (), Processor())
    made = GeneratedKernel(request, {})
    made.prepare()
    failed: Future[Built] = Future()
    failed.set_exception(KernelBuildFailed("no memory"))
    monkeypatch.setattr(kernel, "submit", lambda _: failed)
    assert torch.equal(made(x.t()), x.t() * 2)


def test_a_build_that_fails_for_dense_inputs_is_an_error(monkeypatch):
    failed: Future[Built] = Future()
    failed.set_exception(KernelBuildFailed("no memory"))
    monkeypatch.setattr(kernel, "submit", lambda _: failed)
    request = KernelRequest.of(program("y: f32[4] = L[i:4] x[i]", "y", x=torch.randn(4)), (), Processor())
    with pytest.raises(KernelBuildFailed, match="no memory"):
        GeneratedKernel(request, {})(torch.randn(4))


def test_a_request_knows_the_program_that_its_text_says():
    text = "m: f32[21] = L[i:21] max[j:37]{ x[i,j] }\ny: f32[21,37] = L[i:21,j:37] exp(x[i,j] - m[i])"
    made = KernelRequest.of(program(text, "y", x=torch.zeros(21, 37)), (), Processor())
    parsed = KernelRequest.decode(made.encode()).program
    assert (parsed.inputs, parsed.stages, parsed.outputs) == (
        made.program.inputs,
        made.program.stages,
        made.program.outputs,
    )
