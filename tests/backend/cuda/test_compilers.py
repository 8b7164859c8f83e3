"""From CUDA C++ to cubins, by whichever compiler there is."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch
from support.cuda_on_cpu import A100
from support.generated import program

from tpopt.backend.cuda import compilers
from tpopt.backend.cuda.compilers import compile_cubin
from tpopt.backend.cuda.request import CudaRequest
from tpopt.backend.tvm.cuda.source import cuda_source
from tpopt.errors import KernelBuildFailed

needs_a_compiler = pytest.mark.skipif(compilers.obstacle() is not None, reason="there is no compiler for CUDA here")
ELF = b"\x7fELF"


def source(dtype: torch.dtype) -> str:
    x = torch.empty(5, 300, dtype=dtype)
    kind = {torch.float32: "f32", torch.float16: "f16", torch.int64: "i64"}[dtype]
    request = CudaRequest.of(program(f"y: {kind}[5] = L[i:5] max[k:300]{{ x[i,k] }}", "y", x=x), A100)
    return cuda_source(request.plan, "sm_80")


@needs_a_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_a_kernel_compiles(dtype: torch.dtype, arch: str, tmp_path: Path):
    compile_cubin(source(dtype), arch, tmp_path / "cubin")
    assert (tmp_path / "cubin").read_bytes().startswith(ELF)


@needs_a_compiler
def test_what_the_compiler_says_is_in_the_error(tmp_path: Path):
    with pytest.raises(KernelBuildFailed, match=r"(?s)does not compile a kernel for sm_80: .*nonsense"):
        compile_cubin("nonsense", "sm_80", tmp_path / "cubin")


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(compilers, "_compiler", lambda: None)
    assert "tpopt[cuda]" in (compilers.obstacle() or "")
    with pytest.raises(KernelBuildFailed, match="neither nvcc"):
        compile_cubin("", "sm_80", tmp_path / "cubin")


def test_nvcc_is_found_below_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert compilers._nvcc() == str(nvcc)


@pytest.mark.skipif(compilers._nvrtc() is None, reason="NVRTC is not installed: pip install 'tpopt[cuda]'")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
def test_nvrtc_compiles_too(dtype: torch.dtype, tmp_path: Path):
    library = compilers._nvrtc()
    assert isinstance(library, ctypes.CDLL)
    compilers._with_nvrtc(library, source(dtype), "sm_80", tmp_path / "cubin")
    assert (tmp_path / "cubin").read_bytes().startswith(ELF)
