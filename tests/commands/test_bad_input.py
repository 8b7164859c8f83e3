"""Every command on what it cannot take: the documented exit code, one clear line, nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Ended

Run = Callable[..., Ended]
QUICK = ("--choice", "model", "--kernels", "library")
TAKES_A_MODEL = ("optimize", "explain", "verify", "bisect", "repro")
TAKES_A_FILE = ("run", "inspect")


def one_line(ended: Ended, code: int, says: str) -> None:
    lines = [line for line in ended.err.splitlines() if not line.startswith("running ")]
    assert (ended.code, ended.out, len(lines)) == (code, "", 1), ended.err
    assert says in lines[0]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", TAKES_A_MODEL)
@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("missing.py:build", 2, "there is no file missing.py"),
        ("missing.tpg", 2, "there is no file missing.tpg"),
        ("net.py:biuld", 2, "did you mean 'build'?"),
        ("net.py", 2, "names no function: expected path/to/file.py:function"),
        ("net.py:number", 2, "gave a value of type int"),
        ("broken.tpg", 6, "broken.tpg is no saved model"),
        ("model.pt2", 6, "Pass --trust"),
        ("net.py:interrupted", 130, "interrupted"),
    ],
)
def test_models_that_are_not_there(run: Run, tmp_path: Path, command: str, target: str, code: int, says: str):
    (tmp_path / "broken.tpg").write_text("not a zip")
    (tmp_path / "model.pt2").write_bytes(b"x")
    before = sorted(p.name for p in tmp_path.iterdir())
    one_line(run(command, target), code, says)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("cache", "__pycache__")) == before


@pytest.mark.parametrize("command", TAKES_A_FILE)
@pytest.mark.parametrize(
    ("file", "code", "says"),
    [("missing.tpg", 2, "there is no file"), (".", 2, "is not a file"), ("net.py", 6, "is no saved model")],
)
def test_files_that_are_not_there(run: Run, command: str, file: str, code: int, says: str):
    one_line(run(command, file), code, says)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("command", [*TAKES_A_FILE, "verify"])
def test_files_that_may_not_be_read(run: Run, saved: str, command: str):
    Path(saved).chmod(0)
    one_line(run(command, saved), 2, "cannot read")


@pytest.mark.parametrize("command", ["optimize", "explain", "bisect", "repro"])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("-p", "fold-constant"), "did you mean 'fold-constants'?"),
        (("-p", "fold-constants{max_byte=1}"), "max_byte"),
        (("-p", "fold-constants{"), "column"),
        (("--effort", "much"), "effort='much': expected 'fast'"),
        (("--choice", "guessed"), "choice='guessed': expected 'measured' or 'model'"),
        (("--seed", "-1"), "seed=-1"),
    ],
)
def test_options_that_do_not_exist(run: Run, tmp_path: Path, command: str, option: tuple[str, str], says: str):
    ended = run(command, "net.py:build", *option)
    assert (ended.code, ended.out, says in ended.err, "Traceback" in ended.err) == (2, "", True, False), ended.err
    assert not (tmp_path / "repro").exists()


@pytest.mark.parametrize("name", ["nowhere/out.tpg", "nowhere/out.json"])
def test_folders_that_are_not_there_are_noticed_before_the_work(run: Run, name: str):
    one_line(run("optimize", "net.py:build", *QUICK, "-o", name), 2, "there is no folder nowhere")


def test_a_full_disk_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tpopt.store.archive.os.fsync", full)
    ended = run("optimize", "net.py:build", *QUICK, "--no-gate", "-o", "out.tpg")
    assert (ended.code, "cannot write out.tpg: No space left on device" in ended.err) == (2, True)
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name] == []


def test_inputs_that_do_not_fit(run: Run, saved: str, tmp_path: Path):
    import torch
    from safetensors.torch import save_file

    save_file({"other": torch.ones(3, 8)}, "in.safetensors")
    one_line(run("run", saved, "--inputs", "in.safetensors"), 2, "has no tensor")
    (tmp_path / "in.safetensors").write_text("no")
    one_line(run("run", saved, "--inputs", "in.safetensors"), 6, "is not safetensors")
    one_line(run("run", saved, "--inputs", "none.safetensors"), 2, "cannot read none.safetensors")
    one_line(run("inspect", saved, "--member", "plan.tx"), 2, "did you mean 'plan.txt'?")
    one_line(run("inspect", saved, "--member", "weights.safetensors"), 2, "is numbers")
