from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from support.cli import Ended

Run = Callable[..., Ended]
UNTRACED = """
import torch

class Untraced(torch.nn.Module):
    def forward(self, x):
        return x * float(x.sum())

def build():
    return Untraced(), (torch.ones(3),)
"""
QUICK = ("--choice", "model", "--kernels", "library", "--no-gate", "--rounds", "2")


def test_a_saved_model_is_profiled_as_it_is(run: Run, saved: str):
    ended = run("profile", saved, "--rounds", "2", "--trace", "call.json", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    steps = json.loads(run("inspect", saved, "--json").out)["steps"]
    assert len(found["steps"]) == sum(steps.values())
    trace = json.loads(Path("call.json").read_text())["traceEvents"]
    assert [e["name"] for e in trace if e["ph"] == "X"] == [s["name"] for s in found["steps"]]


def test_a_model_is_compiled_and_profiled(run: Run):
    ended = run("profile", "net.py:build", *QUICK)
    assert ended.code == 0, ended.err
    assert "µs a call" in ended.out
    assert "kernel" in ended.out


def test_bad_input_is_refused_before_anything_runs(run: Run):
    assert run("profile", "none.tpg").code == 2
    ended = run("profile", "net.py:build", "--trace", "nowhere/call.json")
    assert (ended.code, "there is no folder nowhere" in ended.err) == (2, True)
    assert "this executes its code" not in ended.err


def test_what_runs_as_the_original_has_no_profile(run: Run):
    Path("twice.py").write_text(UNTRACED)
    ended = run("profile", "twice.py:build", *QUICK)
    assert (ended.code, "the original model runs" in ended.err) == (3, True), ended.err
