"""A stopped acceptance run goes on where it stood, and starts again when the sources change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROWS = """
    import pathlib
    def test_passes(): pathlib.Path("ran").open("a").write("passes ")
    def test_fails():
        pathlib.Path("ran").open("a").write("fails ")
        assert pathlib.Path("mended").exists()
"""


@pytest.fixture
def rows(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makepyfile(test_rows=ROWS)
    pytester.mkdir("tpopt").joinpath("a.py").write_text("x = 1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return pytester


def run(rows: pytest.Pytester) -> int:
    return rows.runpytest_subprocess("-p", "support.resume", "--resume", "passed.json").ret


def test_only_what_has_not_passed_is_run_again(rows: pytest.Pytester):
    assert run(rows) == 1
    (rows.path / "mended").touch()
    assert run(rows) == 0
    assert (rows.path / "ran").read_text() == "passes fails fails "
    assert sorted(json.loads((rows.path / "passed.json").read_text())) == [
        "test_rows.py::test_fails",
        "test_rows.py::test_passes",
    ]


def test_when_all_have_passed_the_run_succeeds_without_running_any(rows: pytest.Pytester):
    (rows.path / "mended").touch()
    assert run(rows) == 0
    assert run(rows) == 0
    assert (rows.path / "ran").read_text() == "passes fails "


def test_a_change_of_the_sources_runs_everything_again(rows: pytest.Pytester):
    (rows.path / "mended").touch()
    run(rows)
    (rows.path / "tpopt" / "a.py").write_text("x = 2")
    run(rows)
    assert (rows.path / "ran").read_text() == "passes fails passes fails "
