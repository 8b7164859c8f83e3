"""Runs the command line in this process, with a cache of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Ended

from tpopt.cli import main

MODULE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)).eval(), (torch.randn(3, 8),)

def other():
    model, inputs = build()
    with torch.no_grad():
        model[0].weight.mul_(1.01)
    return model, inputs

def number():
    return 3

def interrupted():
    raise KeyboardInterrupt
"""


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Ended]]:
    """``run("optimize", "net.py:build")`` returns exit code, stdout and stderr; net.py is in the current folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODULE)
    before = dict(sys.modules)

    def execute(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *capsys.readouterr())

    yield execute
    for name in [n for n in sys.modules if n not in before and n.startswith("tpopt_user_")]:
        del sys.modules[name]


@pytest.fixture
def saved(run: Callable[..., Ended]) -> str:
    ended = run("optimize", "net.py:build", "--choice", "model", "--kernels", "library", "--no-gate", "-o", "net.tpg")
    assert ended.code == 0, ended.err
    return "net.tpg"
