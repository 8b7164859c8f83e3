"""``tpopt cubins``: kernels for a GPU that is not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Run

from tpopt.backend.cuda import compilers

MODEL = """
import torch

def model():
    net = torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.GELU(), torch.nn.LayerNorm(48))
    return net, (torch.randn(24, 32),)
"""

needs_a_compiler = pytest.mark.skipif(compilers.obstacle() is not None, reason="there is no compiler for CUDA here")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(MODEL)
    return f"{tmp_path / 'net.py'}:model"


@needs_a_compiler
def test_cubins_and_sources_are_written(run: Run, model: str, tmp_path: Path):
    ended = run("cubins", model, "--arch", "sm_80", "--out", str(tmp_path / "made"), "--json")
    assert ended.code == 0
    kernels = json.loads(ended.out)["kernels"]
    assert kernels
    assert [k["reason"] for k in kernels if k["reason"]] == []
    for kernel in kernels:
        cubin = tmp_path / "made" / kernel["file"]
        assert cubin.read_bytes().startswith(b"\x7fELF")
        assert "__global__" in cubin.with_suffix(".cu").read_text()
        assert kernel["blocks"] > 0
        assert 32 <= kernel["threads"] <= 1024


@needs_a_compiler
def test_the_table_names_every_kernel(run: Run, model: str):
    ended = run("cubins", model, "--arch", "sm_90a")
    assert ended.code == 0
    assert "linear:generated" in ended.out
    assert "kernels compiled for sm_90a, 0 values without one" in ended.err


def test_an_architecture_of_no_gpu_is_refused(run: Run, model: str):
    ended = run("cubins", model, "--arch", "zen5")
    assert ended.code == 2
    assert "expected an architecture of CUDA" in ended.err


def test_without_a_compiler_the_command_says_what_to_install(run: Run, model: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compilers, "_compiler", lambda: None)
    ended = run("cubins", model)
    assert ended.code == 1
    assert "pip install 'tpopt[cuda]'" in ended.err
