"""``tpopt tune`` and ``tpopt cost`` from end to end, on a kernel that takes microseconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Run

from tpopt.commands.tuning import needs
from tpopt.errors import UsageError

GATE = """
import torch

class Gate(torch.nn.Module):
    def forward(self, x, y):
        return torch.tanh(x) * y + x

def build():
    return Gate(), (torch.ones(64, 48), torch.ones(48))
"""


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "gate.py"
    file.write_text(GATE)
    return f"{file}:build"


def test_a_model_is_tuned_and_goes_on_where_it_was(run: Run, gate: str, tmp_path: Path):
    file = str(tmp_path / "t.db")
    command = ("tune", gate, "--seconds", "1", "--most", "1", "--trials", file, "--json")
    first, second = (json.loads(run(*command).out) for _ in range(2))
    assert first["trials"] == file
    (kernel,) = first["kernels"]
    assert kernel["trials"] >= 8
    assert kernel["ratio"] <= 1.0
    assert second["kernels"][0]["trials"] > kernel["trials"]


def test_a_model_without_loops_says_so(run: Run, net: str, tmp_path: Path):
    ended = run("tune", net, "--trials", str(tmp_path / "t.db"))
    assert (ended.code, ended.out.strip()) == (0, "the model has no generated kernel whose loops can be tuned")


def test_collect_train_evaluate_and_transfer(run: Run, tmp_path: Path, gate: str):
    file = str(tmp_path / "t.db")
    done = json.loads(run("cost", "collect", "--seeds", "1", "--each", "4", "--trials", file, "--json").out)
    assert done["measured"] == 40
    assert done["failed"] == 0
    out = tmp_path / "r.safetensors"
    ended = run("cost", "train", "-o", str(out), "--trials", file, "--seeds", "2")
    assert ended.code == 0, ended.err
    assert {line.split()[-1] for line in ended.out.splitlines()[1:]} == {"lambdarank", "ridge"}
    assert json.loads(out.with_suffix(".json").read_text())["trials"] == 40
    found = json.loads(run("cost", "evaluate", "--trials", file, "--seeds", "1", "--prune", "0.45", "--json").out)
    assert "lambdarank, 45% pruned" in found["mean"]
    moved = json.loads(
        run("cost", "transfer", "--from", "threads", "--to", "threads", "--labels", "16", "--trials", file,
            "--seeds", "1", "--json").out
    )  # fmt: skip
    assert set(moved["mean"]) == {"none", "scratch", "fine-tuned", "residual", "full"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("cost", "evaluate", "--trials", "{}"), "run `tpopt cost collect` first"),
        (("cost", "collect", "--each", "0", "--trials", "{}"), "must be positive"),
        (("cost", "collect", "--vector-bytes", "24", "--trials", "{}"), "--vector-bytes 24: expected 16 or 32"),
        (("cost", "collect", "--resource", "GPU=1", "--trials", "{}"), "give --cluster as well"),
        (("tune", "GATE", "--seconds", "0", "--trials", "{}"), "expected a positive time"),
        (("tune", "GATE", "--model", "nowhere.safetensors", "--trials", "{}"), "nowhere.safetensors is no ranker"),
    ],
)
def test_what_is_wrong_is_said(run: Run, gate: str, tmp_path: Path, command: tuple[str, ...], said: str):
    spelled = [part.replace("{}", str(tmp_path / "t.db")).replace("GATE", gate) for part in command]
    ended = run(*spelled)
    assert ended.code in (2, 6)
    assert said in ended.err


@pytest.mark.parametrize("text", ["GPU", "GPU=", "GPU=x", "=1", "GPU=0", "GPU=nan"])
def test_a_resource_is_a_name_and_an_amount(text: str):
    with pytest.raises(UsageError, match="expected"):
        needs([text])


def test_resources_add_up():
    assert needs(None) == {"CPU": 1.0}
    assert needs(["GPU=0.5", "xeon=1"]) == {"GPU": 0.5, "xeon": 1.0}
