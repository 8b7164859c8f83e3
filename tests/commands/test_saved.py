from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from support.cli import Ended

import tpopt
from tpopt.commands.cache import contents

Run = Callable[..., Ended]
QUICK = ("--choice", "model", "--kernels", "library")


def test_run_on_the_examples_and_on_inputs_of_a_file(run: Run, saved: str):
    rows = json.loads(run("run", saved, "--json").out)["results"]
    assert [(r["name"], r["type"], r["shape"]) for r in rows] == [("result0", "float32", [3, 4])]
    (name,) = [t.name for t in tpopt.load(saved).program.inputs]  # type: ignore[union-attr]
    x = torch.randn(3, 8)
    save_file({name: x}, "in.safetensors")
    assert run("run", saved, "--inputs", "in.safetensors", "--out", "out.safetensors").code == 0
    assert torch.equal(load_file("out.safetensors")["result0"], tpopt.load(saved)(x))


def test_inspect_shows_what_is_in_the_file(run: Run, saved: str):
    found = json.loads(run("inspect", saved, "--json").out)
    assert (found["manifest"]["format"], found["manifest"]["status"]) == (1, "optimized")
    assert sum(found["steps"].values()) == len(tpopt.load(saved).plan.steps)  # type: ignore[union-attr]
    assert found["certificate"]["passed"] is True
    assert run("inspect", saved, "--member", "plan.txt").out.startswith("program Sequential(")


def test_inspect_needs_neither_torch_nor_tvm(run: Run, saved: str):
    blocked = "torch", "tvm", "tvm_ffi", "scipy", "ortools", "sympy", "safetensors"
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        f"from tpopt.cli import main\nmain(['inspect', {str(Path(saved).resolve())!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "1 mkl" in done.stdout or "mkl" in done.stdout) == (0, True), done.stderr


def test_a_saved_model_is_optimized_anew(run: Run, saved: str):
    ended = run("optimize", saved, *QUICK, "-p", "none", "--no-gate", "-o", "again.tpg")
    assert ended.code == 0, ended.err
    x = torch.randn(3, 8)
    assert torch.allclose(tpopt.load("again.tpg")(x), tpopt.load(saved)(x), atol=1e-5)


def test_verify_the_plan_of_a_file_against_its_source_and_itself(run: Run, saved: str):
    for arguments in (("net.py:build", saved), (saved,)):
        ended = run("verify", *arguments, "--seconds", "2", "--json")
        assert (ended.code, json.loads(ended.out)["passed"]) == (0, True)


def test_verify_says_that_two_models_differ(run: Run):
    ended = run("verify", "net.py:build", "net.py:other", "--seconds", "2")
    assert (ended.code, "net.py:other does not compute what net.py:build computes" in ended.err) == (4, True)
    assert "times what is allowed" in ended.out


def test_bisect_of_a_sound_model(run: Run, saved: str):
    ended = run("bisect", saved, *QUICK)
    assert (ended.code, ended.out) == (0, "every pass and every kernel computes what it should\n")


def test_repro_is_a_short_script_that_runs_without_the_user_s_code(run: Run, tmp_path: Path):
    ended = run("repro", "net.py:build", *QUICK, "-o", "bug", "--random-weights")
    assert (ended.code, ended.out) == (0, "python bug/repro.py\n")
    (tmp_path / "net.py").unlink()
    text = (tmp_path / "bug" / "repro.py").read_text()
    assert text.count("\n") < 60
    done = subprocess.run(
        [sys.executable, "repro.py"], cwd=tmp_path / "bug", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1][:9]) == (0, "result 0:"), done.stderr


def test_the_cache_is_listed_and_cleared(run: Run, saved: str, tmp_path: Path):
    assert run("cache", "path").out == f"{tmp_path / 'cache'}\n"
    before = {r["name"]: r["files"] for r in json.loads(run("cache", "status", "--json").out)["rooms"]}
    assert before["admitted-v1"] == 1
    (tmp_path / "cache" / "records-v1.json").write_text("{}")
    assert run("cache", "clear").code == 0
    assert {r["name"]: r["files"] for r in contents()} == {**dict.fromkeys(before, 0), "records": 1}
    run("cache", "clear", "--records")
    assert sum(r["files"] for r in contents()) == 0
    assert run("run", saved).code == 0
