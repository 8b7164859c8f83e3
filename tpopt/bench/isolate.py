"""One model in a process of its own: a crash there is a row of the suite, not the end of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tpopt.bench.config import BenchConfig
from tpopt.bench.model import failed_row
from tpopt.bench.run import Row
from tpopt.errors import LimitExceeded

TAIL_CHARACTERS = 400


def bench_isolated(name: str, config: BenchConfig) -> Row:
    """Benches one model of the suite in a new Python; whatever happens there comes back as a row."""
    with tempfile.TemporaryDirectory(prefix="tpopt-bench-") as folder:
        answer, log = Path(folder, "row.json"), Path(folder, "stderr.txt")
        request = json.dumps({"model": name, "config": config.to_dict(), "answer": str(answer)})
        with log.open("wb") as errors:
            code = _run_worker(request, errors.fileno(), _variables(config), config.limit_s)
        if code is None:
            reason = f"stopped after {config.limit_s:g} s; --limit raises that"
            return failed_row(name, reason, LimitExceeded.exit_code)
        if code == 0 and answer.exists():
            row: Row = json.loads(answer.read_text(encoding="utf-8"))
            return row
        return failed_row(name, f"{_ending(code)}{_tail(log)}")


def _run_worker(request: str, errors: int, variables: dict[str, str], limit_s: float) -> int | None:
    """Returns the worker's exit status, or None when it ran out of time. It never outlives this call."""
    command = [sys.executable, "-m", "tpopt.bench.worker"]
    with subprocess.Popen(  # noqa: S603  # our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=errors, stderr=errors, text=True, env=variables, start_new_session=True
    ) as process:
        try:
            process.communicate(request, timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end_group(process)
        return process.returncode


def _end_group(process: subprocess.Popen[str]) -> None:
    """Ends the worker and the helpers it started; they share a process group of their own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _variables(config: BenchConfig) -> dict[str, str]:
    """Returns this process's environment; OpenMP reads its number of threads once, so it is set before the start."""
    threads = {} if config.threads is None else {"OMP_NUM_THREADS": str(config.threads)}
    return {**os.environ, **threads}


def _ending(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return f": {text[-TAIL_CHARACTERS:]}" if text else ""
