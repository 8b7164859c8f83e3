"""Suites of models in interleaved rounds against other compilers, and runs against a saved baseline.

:func:`run_suite` benches, :func:`compare_runs` compares two runs, and :func:`interleave` times callables of any kind.
"""

from __future__ import annotations

from tpopt.bench.compare import Comparison, Finding, compare_runs
from tpopt.bench.config import BenchConfig
from tpopt.bench.peers import PEERS
from tpopt.bench.run import Run, load_run
from tpopt.bench.suite import run_suite
from tpopt.measure import Ratio, Timings, interleave

__all__ = [
    "PEERS",
    "BenchConfig",
    "Comparison",
    "Finding",
    "Ratio",
    "Run",
    "Timings",
    "compare_runs",
    "interleave",
    "load_run",
    "run_suite",
]
