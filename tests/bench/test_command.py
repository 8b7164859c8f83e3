"""The command: data on stdout, the rest on stderr, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tpopt.bench import suite
from tpopt.bench.command import bench
from tpopt.errors import PerformanceRegression, TpoptError, UsageError

app = typer.Typer()
app.command("bench")(bench)
QUICK = ["--peers", "eager", "--rounds", "5", "--no-isolate", "--allocator", "stock"]


@pytest.fixture(autouse=True)
def _compiler(monkeypatch):
    """Stands in for tpopt.compile, which the command line gives no way to replace."""
    import tpopt

    def compile_(model, inputs, **options):
        import tiny

        return tiny.compile_as_is(model, inputs, **options)

    monkeypatch.setattr(tpopt, "compile", compile_, raising=False)


def call(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_tables_go_to_stdout_and_progress_to_stderr(tiny):
    done = call("--suite", tiny, "--models", "first,last", *QUICK)
    assert done.exit_code == 0, done.exception
    progress = [line.partition(",")[0] for line in done.stderr.splitlines()]
    assert progress == ["[1/2] first: optimized", "[2/2] last: optimized"]
    assert "every contestant: threads" in done.stdout
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("first", "last"))]
    assert listed == ["first", "last", "first", "last"]


def test_json_on_stdout_is_nothing_but_json(tiny):
    done = call("--suite", tiny, "--models", "first", "--json", "-", *QUICK)
    assert [row["name"] for row in json.loads(done.stdout)["models"]] == ["first"]


def test_a_regression_is_printed_and_raised(tiny, tmp_path):
    file = tmp_path / "base.json"
    counted = ["--suite", tiny, "--models", "first", "--choice", "model", "--no-isolate"]
    assert call(*counted, "--json", str(file)).exit_code == 0
    assert call(*counted, "--compare", str(file)).exit_code == 0
    file.write_text(file.read_text().replace('"macs_after": 30', '"macs_after": 29'))
    done = call(*counted, "--compare", str(file), "--json", "-")
    assert isinstance(done.exception, PerformanceRegression)
    assert json.loads(done.stdout)["comparison"]["passed"] is False


def test_a_model_without_a_result_is_an_error_after_the_table(tiny):
    done = call("--suite", tiny, "--models", "first,broken", *QUICK)
    assert isinstance(done.exception, TpoptError)
    assert str(done.exception) == "1 of 2 models have no result: broken"
    assert "broken: failed: ValueError: no such weights" in done.stdout


def test_an_unreadable_baseline_is_found_before_anything_runs(tiny, tmp_path):
    done = call("--suite", tiny, "--compare", str(tmp_path / "none.json"))
    assert isinstance(done.exception, UsageError)
    assert done.stdout == ""


def test_ctrl_c_says_how_to_go_on(tiny, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "bench_here", interrupted)
    file = str(tmp_path / "run.json")
    done = call("--suite", tiny, "--models", "first", "--json", file, *QUICK)
    assert done.exit_code == 130
    assert done.stderr == f"stopped; {file} holds what was finished, and --resume goes on\n"


def test_the_command_loads_without_torch():
    program = "import sys, tpopt.bench.command; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
