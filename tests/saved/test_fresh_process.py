"""A file that one process saved, loaded by another that has neither a compiler nor TVM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tpopt
from tpopt.bench.suites import load_suite

LOAD = """
import sys, time
import torch
inputs, expected = torch.load(sys.argv[2])
began = time.perf_counter()
import tpopt
from tpopt.bench.suites import load_suite
loaded = tpopt.load(sys.argv[1])
took = time.perf_counter() - began
same = all(torch.equal(loaded(*inputs), expected) for _ in range(2))
print(took, same, "tvm" in sys.modules, "onednn" in str(loaded.plan), loaded.plan.count().get("generated", 0))
"""


def in_a_fresh_process(model: Path, known: Path, **environment: str) -> tuple[float, list[str], str]:
    """Seconds from before ``import tpopt`` until the model is ready, what else was printed, and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(model), str(known)],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": "/nonexistent", **environment},
    )  # fmt: skip
    seconds, *facts = done.stdout.split()
    return float(seconds), facts, done.stderr


@pytest.mark.serial
@pytest.mark.acceptance
def test_resnet18_loads_within_a_second_and_computes_the_same_bits(tmp_path: Path):
    model, inputs = load_suite("zoo")["resnet18"]()
    made = tpopt.compile(model, inputs, effort="fast", gate=False)
    made.save(tmp_path / "resnet18.tpg")
    torch.save((inputs, made(*inputs)), tmp_path / "known.pt")
    runs = [in_a_fresh_process(tmp_path / "resnet18.tpg", tmp_path / "known.pt") for _ in range(3)]
    assert all(facts[:3] == ["True", "False", "True"] and not said for _, facts, said in runs)
    assert min(seconds for seconds, _, _ in runs) <= 1.0


def test_cold_and_without_a_compiler_it_runs_on_library_kernels_with_one_warning(tmp_path: Path):
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.LayerNorm(32)).eval()
    inputs = (torch.randn(4, 16, generator=torch.Generator().manual_seed(0)),)
    made = tpopt.compile(model, inputs, choice="model", kernels="generated", gate=False)
    assert made.plan.count()["generated"] >= 1
    made.save(tmp_path / "m.tpg")
    torch.save((inputs, made(*inputs)), tmp_path / "known.pt")
    _, facts, said = in_a_fresh_process(tmp_path / "m.tpg", tmp_path / "known.pt")
    assert (facts[:2], facts[3] != "0", said) == (["True", "False"], True, "")
    _, facts, said = in_a_fresh_process(
        tmp_path / "m.tpg", tmp_path / "known.pt", TPOPT_CACHE_DIR=str(tmp_path / "new")
    )
    assert (facts[1], facts[3], said.count("chosen again"), said.count("\n")) == ("False", "0", 1, 1)
    assert "not in the cache, and no C compiler" in said


def test_another_number_of_threads_is_another_machine(tmp_path: Path):
    model, inputs = torch.nn.Linear(16, 32).eval(), (torch.ones(4, 16),)
    made = tpopt.compile(model, inputs, choice="model", kernels="library", gate=False)
    made.save(tmp_path / "m.tpg")
    torch.save((inputs, made(*inputs)), tmp_path / "known.pt")
    others = "1" if torch.get_num_threads() > 1 else "2"
    _, _, said = in_a_fresh_process(tmp_path / "m.tpg", tmp_path / "known.pt", OMP_NUM_THREADS=others)

    assert (f"threads={others}" in said, said.count("\n")) == (True, 1)
