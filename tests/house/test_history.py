"""The script that draws the history of benchmark runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_run_is_added_and_drawn(tmp_path: Path):
    for commit, ms in (("a" * 40, 3.0), ("b" * 40, 2.5)):
        row = {
            "name": "net<b>",
            "status": "ok",
            "times_ms": {"tpopt": ms},
            "ratio": {"eager": {"median": 2.0}},
            "kernels": {},
        }
        (tmp_path / "run.json").write_text(json.dumps({"models": [row, {"name": "bad", "status": "failed"}]}))
        paths = [str(tmp_path / n) for n in ("run.json", "history.jsonl", "page.html")]
        subprocess.run([sys.executable, str(ROOT / ".ci" / "history"), *paths, commit], check=True)
    lines = [json.loads(text) for text in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(row["commit"][0], row["models"]["net<b>"]["ms"]) for row in lines] == [("a", 3.0), ("b", 2.5)]
    page = (tmp_path / "page.html").read_text()
    assert (page.count("<circle"), page.count("net&lt;b&gt;"), "http" in page) == (2, 1, False)
