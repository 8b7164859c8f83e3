from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.cli import Run

COMMANDS = """
    optimize explain profile run inspect verify bisect repro report bench derive replay remat pack assign
    coverage passes doctor tune cubins cost cache
""".split()
COST = [f"cost {name}" for name in ("collect", "train", "evaluate", "transfer")]
IN_A_PROCESS = """
import json, sys
from tpopt.cli import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as ended:
    assert ended.code == 0, ended.code
print("LOADED", json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("arguments", [[], *([c] for c in COMMANDS)], ids=["tpopt", *COMMANDS])
def test_help_imports_neither_torch_nor_tvm(arguments: list[str]):
    command = [sys.executable, "-c", IN_A_PROCESS, json.dumps([*arguments, "--help"])]
    shown, _, loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("LOADED ")
    assert set(json.loads(loaded)) & {"torch", "tvm", "tvm_ffi", "ortools", "sympy"} == set()
    assert shown.startswith(f"Usage: {' '.join(['tpopt', *arguments])} ")


def test_the_commands_are_listed_in_the_order_of_use(run: Run):
    listing = run("--help").out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listing.splitlines()] == COMMANDS


def test_no_summary_of_a_command_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in run("--help").out.partition("Commands:\n")[2]


@pytest.mark.parametrize("command", [*COMMANDS[:-2], *COST, "cache status", "cache clear"])
def test_every_command_has_json(command: str, run: Run):
    assert "--json" in run(*command.split(), "--help").out


def test_the_version_is_data(run: Run):
    ended = run("--version")
    assert (ended.code, ended.out, ended.err) == (0, "tpopt 0.1.0\n", "")
