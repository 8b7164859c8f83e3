from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import Compiler, Run
from support.reports import KEPT, OPTIMIZED

from tpopt.commands.compiling import options_of
from tpopt.commands.output import progress_bar
from tpopt.options import Options
from tpopt.report import ResultRow, read_report


def test_the_report_is_data(net: str, run: Run, compiler: Compiler):
    assert run("optimize", net).out == f"{OPTIMIZED}\n"


def test_json_is_the_report_and_nothing_else(net: str, run: Run, compiler: Compiler):
    assert json.loads(run("optimize", net, "--json").out) == OPTIMIZED.to_dict()


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ([], "effort", "balanced"),
        (["--effort", "fast"], "effort", "fast"),
        (["--effort", "2.5"], "effort", 2.5),
        (["--choice", "model"], "choice", "model"),
        (["--kernels", "library"], "kernels", "library"),
        (["--tolerance", "1e-4"], "tolerance", 1e-4),
        (["--strict"], "strict", True),
        (["--no-verify"], "verify", False),
        (["--no-gate"], "gate", False),
        (["--records", "r.json"], "records", Path("r.json")),
        (["--pipeline", "dead-code"], "pipeline", "dead-code"),
        (["--exclude", "a.*", "--exclude", "b"], "exclude", ("a.*", "b")),
        (["--seed", "7"], "seed", 7),
    ],
)
@pytest.mark.parametrize("command", ["optimize", "explain"])
def test_options_arrive(
    command: str, arguments: list[str], field: str, value: Any, net: str, run: Run, compiler: Compiler
):
    assert run(command, net, *arguments).code == 0
    assert compiler.calls[0][3] == dataclasses.replace(Options(), **{field: value})


def test_without_arguments_the_options_are_the_defaults():
    assert options_of(effort="balanced", no_verify=False, no_gate=False, exclude=None) == Options()


def test_a_wrong_option_is_found_before_any_code_runs(net: str, run: Run, compiler: Compiler):
    ended = run("optimize", net, "--choice", "luck")
    assert (ended.code, ended.err) == (2, "error: choice='luck': expected 'measured' or 'model'\n")


def test_the_report_can_be_saved(net: str, run: Run, compiler: Compiler, tmp_path: Path):
    ended = run("optimize", net, "--out", str(tmp_path / "run.json"))
    assert read_report(tmp_path / "run.json") == OPTIMIZED
    assert ended.err.endswith(f"saved the report to {tmp_path / 'run.json'}\n")


def test_a_folder_that_is_not_there_is_found_before_any_code_runs(net: str, run: Run, compiler: Compiler):
    ended = run("optimize", net, "--out", "/no/such/run.json")
    assert (ended.code, ended.err, compiler.calls) == (
        2,
        "error: --out /no/such/run.json: there is no folder /no/such\n",
        [],
    )


LOUD = """
import os, sys, torch
from types import SimpleNamespace
import tpopt
from tpopt.cli import main

def build():
    print("from python", flush=True)
    os.write(1, b"from c\\n")
    os.system("echo from a child")
    return torch.nn.Identity(), torch.ones(2)

def compile(model, inputs, *, kwargs, options):
    print("from a pass", flush=True)
    from support.reports import OPTIMIZED
    return SimpleNamespace(report=OPTIMIZED)

if __name__ == "__main__":
    tpopt.__dict__["compile"] = compile
    main(["optimize", f"{__file__}:build", "--json"])
"""


def test_what_the_users_code_prints_is_no_data(tmp_path: Path):
    (tmp_path / "loud.py").write_text(LOUD)
    path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "loud.py")],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == OPTIMIZED.to_dict()
    assert done.stderr.splitlines()[1:] == ["from python", "from c", "from a child", "from a pass"]


def test_the_best_so_far_is_a_result(net: str, run: Run, compiler: Compiler):
    result = ResultRow(status="optimized", reason="interrupted after 3 s: the best so far", speedup=1.2)
    compiler.report = dataclasses.replace(KEPT, result=result)
    ended = run("optimize", net)
    assert (ended.code, ended.out.splitlines()[0]) == (0, "optimized 1.20x: interrupted after 3 s: the best so far")


def test_progress_is_shown_on_a_terminal_alone(net: str, run: Run, compiler: Compiler):
    run("optimize", net)
    assert compiler.calls[0][3].progress is None


def test_progress_on_a_terminal_names_the_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar() as tell:
        assert tell is not None
        tell("verify [x]", 0.5)
    shown = capsys.readouterr()
    assert (shown.out, "verify [x]" in shown.err) == ("", True)


@pytest.mark.parametrize(("name", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_messages_have_colours_unless_told_otherwise(
    name: str, coloured: bool, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv(name, "1")
    assert ("\x1b[1;31m" in run("optimize", "net.py").err) is coloured
