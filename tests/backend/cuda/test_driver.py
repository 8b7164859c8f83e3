"""Loading and launching, against a driver that runs kernels of this CPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch
from support.cuda_on_cpu import A100, build_on_cpu
from support.generated import program

from tpopt.backend.build.link import c_compiler, run
from tpopt.backend.cuda.driver import Driver
from tpopt.backend.cuda.kernel import CudaKernel
from tpopt.backend.cuda.request import CudaRequest
from tpopt.errors import KernelBuildFailed

SOURCE = Path(__file__).parents[2] / "support" / "driver_on_cpu.c"
STREAM = 0x1234


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = c_compiler()
    assert compiler is not None
    made = tmp_path_factory.mktemp("driver") / "driver.so"
    assert run((*compiler, "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl")) is None
    return ctypes.CDLL(str(made))


def request_of(body: str, **given: torch.Tensor) -> CudaRequest:
    return CudaRequest.of(program(body, "y", **given), A100)


def test_a_kernel_is_loaded_once_and_launched_with_its_tensors(library: ctypes.CDLL, tmp_path: Path):
    x, w = torch.randn(5, 300), torch.randn(300)
    request = request_of("y: f32[5] = L[i:5] sum[k:300]{ x[i,k] * w[k] }", x=x, w=w)
    cubin = tmp_path / "cubin"
    cubin.write_text(str(build_on_cpu(request)))
    driver, loads = Driver(library), []

    def load(path: Path, blocks: int, threads: int, device: torch.device):
        function = driver.function(path, 0)
        loads.append(function.value)
        return lambda addresses: driver.launch(function, blocks, threads, STREAM, addresses)

    kernel = CudaKernel(request, {1: w}, lambda _: cubin, load)
    before = library.launched()
    for _ in range(3):
        torch.testing.assert_close(kernel(x), x @ w)
    assert library.launched() - before == 3
    assert len(loads) == 1
    assert driver.function(cubin, 0).value == loads[0]


def test_what_the_driver_says_is_in_the_error(library: ctypes.CDLL, tmp_path: Path):
    damaged = tmp_path / "cubin"
    damaged.write_text("damaged")
    with pytest.raises(KernelBuildFailed, match=r"cuModuleLoadData of CUDA's driver: device kernel image is invalid"):
        Driver(library).function(damaged, 0)


def test_an_error_without_a_name_has_a_number(library: ctypes.CDLL):
    with pytest.raises(KernelBuildFailed, match=r"cuLaunchKernel of CUDA's driver: an error without a name \(1\)"):
        Driver(library).launch(ctypes.c_void_p(1), 1, 32, 0, [])
