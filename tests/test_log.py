from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tpopt.errors import UnknownName
from tpopt.log import STAGES, levels, record

COMPILE = """
import torch, tpopt
tpopt.compile(torch.nn.Linear(3, 4).eval(), torch.ones(2, 3), choice="model", kernels="library", effort=20)
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", COMPILE]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_stages_and_their_levels():
    assert levels("choose,+verify,-race") == {
        "choose": logging.INFO, "verify": logging.DEBUG, "race": logging.ERROR,
    }  # fmt: skip
    assert levels("all,-clean_up") == {**dict.fromkeys(STAGES, logging.INFO), "clean up": logging.ERROR}


def test_an_unknown_stage_lists_those_that_exist():
    with pytest.raises(UnknownName, match=r"unknown stage in TPOPT_LOGS 'chose'; did you mean 'choose'?"):
        levels("chose")


def test_nothing_is_said_unless_asked():
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_stages_of_a_compilation_on_stderr_and_in_a_trace(tmp_path: Path):
    done = run(TPOPT_LOGS="choose,verify", TPOPT_TRACE=str(tmp_path / "trace"))
    assert done.returncode == 0, done.stderr
    assert {line.split()[2] for line in done.stderr.splitlines()} == {"tpopt.choose", "tpopt.verify"}
    (file,) = (tmp_path / "trace").iterdir()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [r["stage"] for r in rows if r["event"] == "begins"] == list(STAGES)
    assert (rows[-1]["event"], rows[-1]["status"] in ("optimized", "original")) == ("done", True)


def test_a_trace_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TPOPT_TRACE", str(tmp_path / "file"))
    record("choose", "chosen", candidates=3)
    assert (tmp_path / "file").read_text() == ""
