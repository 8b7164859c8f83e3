from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tpopt.backend.native.loading import as_argument, load_kernel
from tpopt.errors import KernelBuildFailed

Kernels = Mapping[str, Path]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("convert", [lambda t: t, as_argument], ids=["torch", "argument"])
def test_a_parallel_kernel_computes_what_torch_does(kernels: Kernels, threads: int, convert):
    torch.set_num_threads(threads)
    a, b, c = torch.randn(1 << 14), torch.randn(1 << 14), torch.zeros(1 << 14)
    load_kernel(kernels["parallel"], "main")(convert(a), convert(b), convert(c))
    assert torch.equal(c, a + b)


def test_a_kernel_gets_workspace(kernels: Kernels):
    a, b = torch.randn(1 << 16), torch.zeros(1 << 16)
    kernel = load_kernel(kernels["workspace"], "main")
    for _ in range(3):
        kernel(a, b.zero_())
        assert torch.equal(b, (2 * a).flip(0) + 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_fails_in_a_task_is_raised_by_the_call(kernels: Kernels, threads: int):
    torch.set_num_threads(threads)
    kernel = load_kernel(kernels["missing"], "main")
    for _ in range(3):
        with pytest.raises(Exception, match=r"tpopt_tests\.no_such_function"):
            kernel(torch.zeros(64))


def test_a_tensor_that_the_kernel_was_not_built_for_is_refused(kernels: Kernels):
    kernel, ones = load_kernel(kernels["serial"], "main"), torch.ones(16)
    with pytest.raises(ValueError, match=r"Invalid c.shape\[0\] on argument #2"):
        kernel(ones, ones, torch.ones(17))
    with pytest.raises(TypeError, match="Mismatched"):
        kernel(ones, ones, ones.double())


def test_the_function_keeps_the_code_alive(kernels: Kernels):
    kernels = [load_kernel(kernels["serial"], "main") for _ in range(3)]
    del kernels[1:]
    gc.collect()
    c = torch.zeros(16)
    kernels[0](torch.ones(16), torch.ones(16), c)
    assert torch.equal(c, torch.full((16,), 2.0))


def test_an_argument_keeps_its_memory_alive():
    memory = torch.arange(4.0)
    argument = as_argument(memory)
    del memory
    gc.collect()
    assert torch.equal(torch.from_dlpack(argument), torch.arange(4.0))


def test_a_missing_file_and_a_missing_function_are_named(kernels: Kernels, tmp_path: Path):
    with pytest.raises(
        KernelBuildFailed, match=r"nowhere\.so cannot be loaded: there is no such file; remove the file"
    ):
        load_kernel(tmp_path / "nowhere.so", "main")
    with pytest.raises(KernelBuildFailed, match=r"serial\.so has no 'other' that can be loaded"):
        load_kernel(kernels["serial"], "other")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(kernels: Kernels, tmp_path: Path, share: float):
    whole = kernels["serial"].read_bytes()
    (tmp_path / "cut.so").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(KernelBuildFailed, match=r"cut\.so cannot be loaded: it is (truncated|no shared object)"):
        load_kernel(tmp_path / "cut.so", "main")


@pytest.mark.parametrize("content", [b"text\n" * 100, b"\x7fELF" + bytes(5000), b"\x7fELF\x02\x01\x01" + bytes(5000)])
def test_what_is_no_shared_object_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "k.so").write_bytes(content)
    with pytest.raises(KernelBuildFailed, match=r"k\.so "):
        load_kernel(tmp_path / "k.so", "main")


def test_a_process_that_runs_kernels_does_not_import_tvm(kernels: Kernels):
    text = """
import sys, torch
from pathlib import Path
from tpopt.backend.native.loading import load_kernel
a, c = torch.ones(1 << 14), torch.zeros(1 << 14)
load_kernel(Path(sys.argv[1]), "main")(a, a, c)
maps = Path("/proc/self/maps").read_text() if sys.platform == "linux" else ""
pools = {line.split()[-1] for line in maps.splitlines() if "gomp" in line}
print(c.sum().item(), "tvm" in sys.modules, "libtvm_runtime" in maps, len(pools))
"""
    done = subprocess.run(
        [sys.executable, "-c", text, str(kernels["parallel"])], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{2.0 * (1 << 14)} False False 1\n"
