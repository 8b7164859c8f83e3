"""A whole suite, model by model, in a file that an interrupted run goes on with."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from tpopt.bench.config import BenchConfig
from tpopt.bench.isolate import bench_isolated
from tpopt.bench.model import bench_model, failed_row
from tpopt.bench.peers import first_line
from tpopt.bench.run import Row, Run, load_run
from tpopt.bench.settings import environment
from tpopt.bench.suites import Factory, load_suite, select_models
from tpopt.errors import TpoptError, UsageError

OnRow = Callable[[Row, int, int], None]
"""Called with each finished row, how many are done, and how many there are."""


def run_suite(
    config: BenchConfig, *, file: str | Path | None = None, resume: bool = False, on_row: OnRow | None = None
) -> Run:
    """Benches the models of a suite; a model that fails is a row with its reason, and the others go on.

    Args:
        config: what to run and how.
        file: JSON file that holds the finished rows at any time; Ctrl-C leaves it whole.
        resume: keep the rows in ``file`` that have a result, and run the others.
        on_row: called after each model.

    Raises:
        UsageError: no such suite; or ``resume`` without a file, or with one that was measured differently.
        UnknownName: a model that the suite does not have.
    """
    models = select_models(load_suite(config.suite), config.models)
    run = Run(config, environment())
    path = None if file is None else Path(file)
    if resume:
        run.models = _finished(path, run)
    kept = {row["name"] for row in run.models}
    todo = [name for name in models if name not in kept]
    for done, name in enumerate(todo, start=len(kept & set(models)) + 1):
        row = bench_isolated(name, config) if config.isolate else bench_here(name, models[name], config)
        run.models.append(row)
        if path is not None:
            run.save(path)
        if on_row is not None:
            on_row(row, done, len(models))
    order = {name: position for position, name in enumerate(load_suite(config.suite))}
    run.models.sort(key=lambda row: order.get(row["name"], len(order)))
    if path is not None:
        run.save(path)
    return run


def bench_here(name: str, factory: Factory, config: BenchConfig) -> Row:
    """Benches one model in this process; an error becomes a row with its reason."""
    from torch._dynamo import reset

    try:
        return bench_model(name, factory, config)
    except TpoptError as error:
        return failed_row(name, first_line(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  # one broken model must not cost the others their turn
        return failed_row(name, first_line(error))
    finally:
        reset()
        gc.collect()


def _finished(path: Path | None, run: Run) -> list[Row]:
    """Returns the rows of an earlier run under the same conditions that have a result."""
    if path is None:
        raise UsageError("resume: there is no file to go on with; name the one that --json wrote")
    if not path.exists():
        return []
    earlier = load_run(path)
    if not earlier.config.same_measurement(run.config):
        raise UsageError(f"{path}: it was measured with other options; repeat those, or begin a new file")
    if earlier.environment != run.environment:
        raise UsageError(f"{path}: it was measured on another machine or with other versions; begin a new file")
    return [row for row in earlier.models if row["status"] == "ok"]
