"""Kernels for a GPU, run on the CPU, against the program's own evaluation at sizes that are multiples of nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from support.cuda_on_cpu import (
    A100,
    build_on_cpu,
    call_guarded,
    compile_for_cpu,
    kernel_on_cpu,
    load_on_cpu,
    run_on_cpu,
)
from support.generated import program
from support.kernel_cases import CASES, difference, inputs

from tpopt.backend.cuda.carried import carried, file_name
from tpopt.backend.cuda.device import STATIC_SHARED_BYTES, Device
from tpopt.backend.cuda.kernel import CudaKernel
from tpopt.backend.cuda.planning import plan_grid
from tpopt.backend.cuda.request import CudaRequest
from tpopt.backend.tvm.cuda.source import cuda_source
from tpopt.errors import KernelBuildFailed, KernelUnsupported, UsageError
from tpopt.ir.to_torch import to_torch

SMALL = Device("sm_80", 1)
"""A card that is full soon: blocks of products are as large as they get."""
LINEAR = "y: f32[{m},{n}] = L[i:{m},j:{n}] max(sum[k:{k}]{{ x[i,k] * w[j,k] }} + b[j], 0.0)"


def run(body: str, outs: str = "y", device: Device = A100, **given: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(run_on_cpu(program(body, outs, **given), list(given.values()), device))


@pytest.mark.parametrize("device", [A100, SMALL], ids=["large card", "small card"])
@pytest.mark.parametrize("case", CASES)
def test_a_kernel_agrees_with_its_algebra(case: str, device: Device):
    body, outs, shapes = CASES[case]
    given = inputs(shapes)
    exact = to_torch(program(body, outs, **given), dtype=torch.float64)(*given.values())
    assert difference(run(body, outs, device, **given), exact) <= (1e-5 if case == "a long sum" else 2e-6)


@pytest.mark.parametrize(
    ("m", "n", "k", "device", "block"),
    [
        (64, 96, 64, A100, 32),
        (33, 17, 16, A100, 32),
        (200, 130, 77, SMALL, 128),
        (130, 256, 33, SMALL, 128),
        (70, 90, 20, Device("sm_80", 4), 64),
    ],
)
def test_products_in_blocks_of_every_size(m: int, n: int, k: int, device: Device, block: int):
    given = inputs({"x": (m, k), "w": (n, k), "b": (n,)})
    made = program(LINEAR.format(m=m, n=n, k=k), "y", **given)
    product = plan_grid(made, device).product
    assert product is not None
    assert product.block_rows == block
    (y,) = run_on_cpu(made, list(given.values()), device)
    exact = torch.relu(torch.nn.functional.linear(*(given[n].double() for n in "xwb")))
    assert difference((y,), (exact.float(),)) <= 1e-5


def test_a_convolution_in_blocks():
    given = inputs({"x": (2, 9, 13, 13), "w": (24, 9, 3, 3)})
    body = (
        "y: f32[2,24,13,13] = L[n:2,o:24,h:13,v:13] sum[c:9,p:3,q:3]{ "
        "select(1 <= h+p < 14 & 1 <= v+q < 14, x[n,c,h+p-1,v+q-1], 0.0) * w[o,c,p,q] }"
    )
    assert plan_grid(program(body, "y", **given), A100).product is not None
    exact = torch.nn.functional.conv2d(given["x"].double(), given["w"].double(), padding=1)
    assert difference(run(body, **given), (exact.float(),)) <= 1e-5


def test_products_of_batches_of_float64():
    x, w = (torch.randn(s, dtype=torch.float64) for s in ((6, 50, 24), (6, 24, 40)))
    body = "y: f64[6,50,40] = L[b:6,i:50,j:40] sum[k:24]{ x[b,i,k] * w[b,k,j] }"
    torch.testing.assert_close(run(body, x=x, w=w)[0], x @ w)


@pytest.mark.parametrize("columns", [5, 33, 100, 1000, 5000])
def test_rows_are_shared_by_teams_of_every_size(columns: int):
    x = torch.randn(9, columns)
    body = (
        f"m: f32[9] = L[i:9] max[k:{columns}]{{ x[i,k] }}\n"
        f"s: f32[9] = L[i:9] sum[k:{columns}]{{ exp(x[i,k] - m[i]) }}\n"
        f"y: f32[9,{columns}] = L[i:9,j:{columns}] exp(x[i,j] - m[i]) / s[i]"
    )
    assert difference(run(body, x=x), (torch.softmax(x.double(), -1).float(),)) <= 1e-6


def test_a_whole_block_shares_the_sum_of_few_long_rows():
    x = torch.randn(3, 5000)
    made = program("y: f32[3] = L[i:3] sum[k:5000]{ x[i,k] }", "y", x=x)
    (spread,) = plan_grid(made, A100).spreads
    assert spread.lanes == 256
    assert difference(tuple(run_on_cpu(made, [x])), (x.double().sum(1).float(),)) <= 1e-5


@pytest.mark.parametrize("columns", [100, 1000])
def test_a_kernel_without_its_barriers_is_found_wrong(columns: int, tmp_path: Path):
    """What runs kernels on the CPU sees a barrier that is missing: threads run in two orders."""
    x = torch.randn(9, columns)
    body = f"m: f32[9] = L[i:9] sum[k:{columns}]{{ x[i,k] }}\ny: f32[9,{columns}] = L[i:9,j:{columns}] x[i,j] - m[i]"
    request = CudaRequest.of(program(body, "y", x=x), A100)
    source = cuda_source(request.plan, "sm_80")
    assert "__syncthreads();" in source
    compile_for_cpu(source.replace("__syncthreads();", ""), tmp_path / "kernel.so")
    right = []
    for backwards in (0, 1):
        load = partial(load_on_cpu, backwards=backwards)
        (y,) = call_guarded(CudaKernel(request, {}, lambda _: tmp_path / "kernel.so", load), [x])
        right.append(torch.allclose(y, x - x.sum(1, keepdim=True), atol=1e-4))
    assert not all(right)


@pytest.mark.parametrize("name", ["float64", "float16", "bfloat16"])
def test_other_floats(name: str):
    kind = {"float64": "f64", "float16": "f16", "bfloat16": "bf16"}[name]
    given = inputs({"x": (5, 21), "z": (5, 21)}, getattr(torch, name))
    results = run(f"y: {kind}[5,21] = L[i:5,j:21] x[i,j] * z[i,j] + x[i,j]", **given)
    assert difference(results, (given["x"] * given["z"] + given["x"],)) <= (1e-12 if name == "float64" else 0.0)


def test_complex_numbers():
    x, z = (torch.randn(5, 210, dtype=torch.complex64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    (y,) = run("y: c64[5] = L[i:5] sum[k:210]{ x[i,k] * z[i,k] }", x=x, z=z)
    torch.testing.assert_close(y, (x * z).sum(1))


@pytest.mark.parametrize("kind", ["bool", "int8", "int64"])
def test_sums_of_every_type_are_shared(kind: str):
    x = torch.randint(0, 2, (4, 333)).to(getattr(torch, kind))
    name = {"bool": "bool", "int8": "i8", "int64": "i64"}[kind]
    monoid = "any" if kind == "bool" else "max"
    (y,) = run(f"y: {name}[4] = L[i:4] {monoid}[k:333]{{ x[i,k] }}", x=x)
    assert torch.equal(y, x.amax(1))


def test_inputs_of_any_strides():
    x = torch.randn(37, 21).t()
    assert torch.equal(run("y: f32[21,37] = L[i:21,j:37] x[i,j] * 2.0", x=x)[0], x * 2)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_axes_are_moved_through_shared_memory(kind: torch.dtype):
    x, z = torch.randn(3, 45, 70).to(kind), torch.randn(45).to(kind)
    name = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[kind]
    made = program(f"y: {name}[3,70,45] = L[b:3,i:70,j:45] x[b,j,i] + z[j]", "y", x=x, z=z)
    turn = plan_grid(made, A100).turn
    assert turn is not None
    assert [r.tensor.name for r in turn.reads] == ["x"]
    assert torch.equal(run_on_cpu(made, [x, z])[0], x.transpose(1, 2) + z)


def test_axes_under_guards_are_moved_without():
    x = torch.randn(45, 70)
    made = program("y: f32[72,45] = L[i:72,j:45] select(1 <= i < 71, x[j,i-1], 0.0)", "y", x=x)
    assert plan_grid(made, A100).turn is None
    assert torch.equal(run_on_cpu(made, [x])[0], torch.nn.functional.pad(x.t(), (0, 0, 1, 1)))


def test_functions_are_the_gpus_own():
    x = torch.linspace(-4, 4, 101)
    (y,) = run("y: f32[101] = L[i:101] exp(x[i]) + tanh(x[i]) + erf(x[i]) + sin(x[i]) + rsqrt(abs(x[i]) + 1.0)", x=x)
    d = x.double()
    exact = d.exp() + d.tanh() + d.erf() + d.sin() + (d.abs() + 1).rsqrt()
    assert difference((y,), (exact.float(),)) <= 1e-6


def test_nan_wins_over_numbers():
    x = torch.tensor([[1.0, float("nan"), 3.0] + [0.0] * 61, list(range(64))])
    assert torch.equal(run("y: f32[2] = L[i:2] max[k:64]{ x[i,k] }", x=x)[0].isnan(), torch.tensor([True, False]))


def test_an_index_that_is_data():
    x, at = torch.randn(10, 33), torch.tensor([3, 9, 0])
    assert torch.equal(run("y: f32[3,33] = L[i:3,j:33] x[at[i]{0:10},j]", x=x, at=at)[0], x[at])


ENDS = """
import sys
sys.path[:0] = {paths!r}
import torch
from support.cuda_on_cpu import run_on_cpu
from support.generated import program
x, at = torch.randn(10, 33), torch.tensor([3, {bad}, 0])
run_on_cpu(program("y: f32[3,33] = L[i:3,j:33] x[at[i]{{0:10}},j]", "y", x=x, at=at), [x, at])
"""


@pytest.mark.parametrize("bad", [10, -1])
def test_an_index_out_of_range_stops_the_device(bad: int):
    command = [sys.executable, "-c", ENDS.format(paths=sys.path, bad=bad)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode < 0
    assert "cuda_on_cpu: trap" in ended.stderr


def test_the_same_kernel_takes_inputs_of_other_strides():
    x = torch.randn(21, 37)
    kernel = kernel_on_cpu(CudaRequest.of(program("y: f32[21,37] = L[i:21,j:37] x[i,j] * 2.0", "y", x=x), A100))
    assert torch.equal(call_guarded(kernel, [x])[0], x * 2)
    turned = torch.randn(37, 21).t()
    assert torch.equal(kernel(turned), turned * 2)


def test_a_row_that_is_too_long_for_a_block_is_refused():
    n = STATIC_SHARED_BYTES // 4 + 1
    x = torch.empty(200, n)
    body = (
        f"a: f32[200,{n}] = L[i:200,j:{n}] exp(x[i,j])\ny: f32[200] = L[i:200] sum[k:{n}]{{ a[i,k] * a[i,{n - 1}-k] }}"
    )
    with pytest.raises(KernelUnsupported, match="a row has 49156 bytes between its stages"):
        plan_grid(program(body, "y", x=x), A100)


def test_a_name_that_is_no_architecture_is_an_error():
    with pytest.raises(UsageError, match="arch='volta': expected an architecture of CUDA"):
        Device.of("volta")


def test_requests_survive_being_encoded():
    x = torch.randn(4, 5)
    request = CudaRequest.of(program("y: f32[4,5] = L[i:4,j:5] x[i,j] * 2.0", "y", x=x), A100).strided({0: (1, 4)})
    again = CudaRequest.decode(request.encode())
    assert again == request
    assert again.digest == request.digest


def test_cubins_from_elsewhere_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    x = torch.randn(4, 5)
    request = CudaRequest.of(program("y: f32[4,5] = L[i:4,j:5] x[i,j] * 2.0", "y", x=x), A100)
    shutil.copy(build_on_cpu(request), tmp_path / file_name("y:generated", request))
    assert carried(request) is None
    monkeypatch.setenv("TPOPT_CUBINS", str(tmp_path))
    assert torch.equal(CudaKernel(request, {}, load=load_on_cpu)(x), x * 2)


def test_inputs_are_copied_where_no_kernel_was_built_for_their_strides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    x = torch.randn(5, 4).t()
    request = CudaRequest.of(program("y: f32[4,5] = L[i:4,j:5] x[i,j] * 2.0", "y", x=x.contiguous()), A100)

    def build(wanted: CudaRequest) -> Path:
        if wanted.strides:
            raise KernelBuildFailed("there is no compiler")
        return build_on_cpu(wanted)

    assert torch.equal(CudaKernel(request, {}, build, load_on_cpu)(x), x * 2)
