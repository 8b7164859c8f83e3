"""``python -m tpopt.bench.worker``: benches one model, asked for on stdin as JSON, and writes its row to a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tpopt.bench.config import BenchConfig
from tpopt.bench.suite import bench_here
from tpopt.bench.suites import load_suite


def main() -> None:
    """Reads ``{"model", "config", "answer"}``, and writes the row to the file that ``answer`` names."""
    request = json.load(sys.stdin)
    config = BenchConfig.from_dict(request["config"])
    name = request["model"]
    row = bench_here(name, load_suite(config.suite)[name], config)
    Path(request["answer"]).write_text(json.dumps(row), encoding="utf-8")


if __name__ == "__main__":
    main()
