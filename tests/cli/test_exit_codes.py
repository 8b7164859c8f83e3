"""One row for each code of docs/exit_codes.md, and for each way in which a command ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Compiler, Run
from support.tree import ROOT

from tpopt import errors

RAISED = [
    (errors.UnsupportedModel("no algebra for aten.foo"), 3, "error: no algebra for aten.foo\n"),
    (errors.UnsupportedInput("x is int64, expected float32"), 3, "error: x is int64, expected float32\n"),
    (errors.GuardFailed("the weights changed"), 3, "error: the weights changed\n"),
    (errors.VerificationFailed("relu diverges"), 4, "error: relu diverges\n"),
    (errors.PerformanceRegression("1.2x slower"), 5, "error: 1.2x slower\n"),
    (errors.CorruptFile("records.json is damaged"), 6, "error: records.json is damaged\n"),
    (errors.LimitExceeded("60 s are over"), 7, "error: 60 s are over\n"),
    (errors.UsageError("tolerance=0"), 2, "error: tolerance=0\n"),
    (errors.InvalidProgram("y is read before it is written"), 1, "error: y is read before it is written\n"),
    (KeyboardInterrupt(), 130, "stopped: interrupted, and there is nothing to keep yet\n"),
    (
        ZeroDivisionError("division by zero"),
        1,
        "internal error: ZeroDivisionError: division by zero; `tpopt --traceback ...` or TPOPT_TRACEBACK=1 shows where",
    ),
    (BrokenPipeError("a worker died"), 1, "internal error: BrokenPipeError: a worker died; "),
]
TYPED = [
    (["--help"], 0),
    (["passes", "--json"], 0),
    ([], 2),
    (["no-such-command"], 2),
    (["optimize"], 2),
    (["optimize", "net.py"], 2),
    (["optimize", "absent.py:build"], 2),
    (["optimize", "net.py:build", "--tolerance", "small"], 2),
    (["optimize", "net.py:build", "--effort", "much"], 2),
    (["explain"], 2),
    (["explain", "net.py:build", "--report", "run.json"], 2),
    (["explain", "--report", "absent.json"], 2),
    (["doctor", "--no-such-option"], 2),
    (["bench", "--no-such-option"], 2),
]


@pytest.mark.parametrize(("error", "code", "message"), RAISED, ids=lambda value: type(value).__name__)
def test_what_a_compilation_raises_is_a_message_and_a_code(
    error: BaseException, code: int, message: str, run: Run, compiler: Compiler, net: str
):
    compiler.error = error
    ended = run("optimize", net)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.partition("executes its code\n")[2].startswith(message)


@pytest.mark.parametrize(
    ("arguments", "code"), TYPED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_is_typed_decides_the_code(arguments: list[str], code: int, run: Run, compiler: Compiler):
    ended = run(*arguments)
    assert (ended.code, bool(ended.out), bool(ended.err)) == (code, code == 0, code != 0)


def test_a_damaged_report_is_6(run: Run, tmp_path: Path):
    (tmp_path / "run.json").write_text("{")
    ended = run("explain", "--report", str(tmp_path / "run.json"))
    assert (ended.code, ended.out) == (6, "")


def test_the_table_of_codes_is_complete():
    page = (ROOT / "docs" / "exit_codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {code for _, code, _ in RAISED} | {code for _, code in TYPED}


def test_a_traceback_is_shown_on_request(run: Run, compiler: Compiler, net: str):
    compiler.error = ZeroDivisionError("division by zero")
    ended = run("--traceback", "optimize", net)
    assert ended.code == 1
    assert "Traceback (most recent call last):" in ended.err
    assert ended.err.endswith("internal error: ZeroDivisionError: division by zero\n")


def test_a_variable_asks_for_the_traceback_too(run: Run, compiler: Compiler, net: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TPOPT_TRACEBACK", "1")
    compiler.error = errors.VerificationFailed("relu diverges")
    ended = run("optimize", net)
    assert ended.code == 4
    assert "VerificationFailed: relu diverges\nerror: relu diverges\n" in ended.err


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("argument", ["passes", "--help"])
def test_a_reader_that_goes_away_is_no_error(argument: str, unbuffered: str):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tpopt", argument]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code"), [("passes --json", 0), ("coverage --help", 0), ("optimize absent.py:build", 2)]
)
def test_a_process_without_stdout_ends_as_any_other(arguments: str, code: int):
    command = f"exec {sys.executable} -m tpopt {arguments} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "internal" in done.stderr) == (code, False)


def interrupted_once(file: Path) -> tuple[int, str, str] | None:
    """Exit code, stdout and stderr after one Ctrl-C; ``None`` where the program goes on in spite of it."""
    command = [sys.executable, "-m", "tpopt", "optimize", f"{file}:build"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line == "started\n")
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    return process.returncode, out, err


def test_a_real_ctrl_c_ends_with_130(tmp_path: Path):
    file = tmp_path / "slow.py"
    file.write_text("import time\nprint('started', flush=True)\ntime.sleep(60)\n")
    ended = interrupted_once(file) or interrupted_once(file)  # one in some hundred was lost on a busy machine
    assert ended == (130, "", "stopped: interrupted, and there is nothing to keep yet\n")
