from __future__ import annotations

import json
from pathlib import Path

from support.cli import Compiler, Run
from support.reports import KEPT, OPTIMIZED

from tpopt.report import write_report


def test_a_compilation_is_explained(net: str, run: Run, compiler: Compiler):
    assert run("explain", net).out == f"{OPTIMIZED.explain()}\n"


def test_a_saved_report_is_explained_without_running_code(tmp_path: Path, run: Run, compiler: Compiler):
    write_report(OPTIMIZED, tmp_path / "run.json")
    ended = run("explain", "--report", str(tmp_path / "run.json"))
    assert (ended.code, ended.out, ended.err) == (0, f"{OPTIMIZED.explain()}\n", "")
    assert compiler.calls == []


def test_json_is_the_part_that_says_why(tmp_path: Path, run: Run):
    write_report(KEPT, tmp_path / "run.json")
    data = json.loads(run("explain", "--report", str(tmp_path / "run.json"), "--json").out)
    assert list(data) == ["schema_version", "result", "choice", "derivations", "opaque", "passes"]
    assert data["result"] == KEPT.to_dict()["result"]


def test_a_target_and_a_report_together_are_refused(run: Run):
    ended = run("explain", "net.py:build", "--report", "run.json")
    assert (ended.code, ended.err) == (2, "error: give either a target or --report FILE\n")
