"""Every attack is opened as a user would, and must end with exit code 6 and a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from saved.conftest import compile_small

from tpopt.cli import main

Refused = Callable[[Path, str], None]


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.tpg"
    compile_small().save(path)
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Refused:
    """``refused(path, reason)`` runs ``tpopt run`` on a file and looks at how it ends."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TPOPT_CACHE_DIR", str(tmp_path / "cache"))

    def check(path: Path, reason: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["run", str(path)])
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (6, ""), said.err
        assert re.search(reason, said.err), said.err
        assert "Traceback" not in said.err

    return check
