"""Runs the command line in this process, with a compiler that only remembers what it was asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Compiler, Ended, Run

import tpopt
from tpopt.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """``run("optimize", "net.py:build")`` returns exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "500")  # messages are not wrapped
    before = dict(sys.modules)

    def execute(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *capsys.readouterr())

    yield execute
    for name in [n for n in sys.modules if n not in before and n.startswith(("tpopt_user_", "own_"))]:
        del sys.modules[name]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    stub = Compiler()
    monkeypatch.setitem(vars(tpopt), "compile", stub)
    return stub


@pytest.fixture
def net(tmp_path: Path) -> str:
    """A file with a function that returns a model and its input."""
    file = tmp_path / "net.py"
    file.write_text("import torch\n\ndef build():\n    return torch.nn.Identity(), torch.ones(2)\n")
    return f"{file}:build"
