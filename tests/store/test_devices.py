"""Where something else than a file has the name that is written to."""

from __future__ import annotations

from pathlib import Path

from tpopt.bench import BenchConfig, Run
from tpopt.store.archive import write_archive


def test_a_saved_model_goes_through_a_pipe(pipe: Path):
    write_archive(pipe, {"manifest.json": b"{}"})
    assert pipe.is_fifo()
    assert [p.name for p in pipe.parent.iterdir()] == ["pipe"]


def test_the_figures_of_a_run_go_through_a_pipe(pipe: Path):
    Run(BenchConfig(), {}, []).save(pipe)
    assert pipe.is_fifo()
    assert [p.name for p in pipe.parent.iterdir()] == ["pipe"]
