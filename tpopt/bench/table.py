"""Runs and comparisons as text: one aligned table each, with what it was measured under."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tpopt.bench.compare import Comparison
from tpopt.bench.run import Row, Run

WIDE = 400
"""Characters; rich only pads to what the columns need."""


def run_text(run: Run) -> str:
    """Returns the run as tables of times (when there are any) and of facts, and what was left out."""
    parts = [_settings_line(run)]
    if any(row["times_ms"] for row in run.models):
        parts.append(_times(run))
    parts.append(_facts(run))
    parts += _remarks(run)
    return "\n".join(parts)


def comparison_text(comparison: Comparison) -> str:
    """Returns what differs as a table, and the count of what does not."""
    differing = [finding for finding in comparison.findings if finding.verdict != "same"]
    equal = f"as in the baseline: {len(comparison.findings) - len(differing)} of {len(comparison.findings)} figures"
    if not differing:
        return equal
    rows = [(f.model, f.figure, f.base, f.new, f.verdict) for f in differing]
    return f"{render(('model', 'figure', 'baseline', 'now', 'verdict'), rows)}\n{equal}"


def render(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Returns an aligned table without frames; the columns in ``right`` are flush right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in header:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=WIDE, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _settings_line(run: Run) -> str:
    settings, versions = run.settings, run.environment
    what = f"suite {run.config.suite}, choice {run.config.choice}, effort {run.config.effort}, fp32, no gradients"
    how = ", ".join(f"{name} {value}" for name, value in settings.items()) or "nothing has run"
    where = ", ".join(f"{name} {value}" for name, value in versions.items())
    return f"{what}\nevery contestant: {how}\n{where}\n"


def _times(run: Run) -> str:
    peers = [peer for peer in run.config.peers if any(peer in row["ratio"] for row in run.models)]
    header = ["model", "tpopt ms", *(f"{peer} ÷ tpopt" for peer in peers)]
    rows = [
        [row["name"], _number(row["times_ms"].get("tpopt"), ".2f"), *(_ratio(row, peer) for peer in peers)]
        for row in run.models
    ]
    geomean = run.geomean()
    rows.append(["geomean", "", *(_number(geomean.get(peer), ".2f") for peer in peers)])
    rounds = max(row["rounds"] for row in run.models)
    caption = f"medians of {rounds} interleaved rounds; times as long as tpopt, with 95 % intervals\n"
    return f"{caption}{render(header, rows, right=header[1:])}\n"


def _facts(run: Run) -> str:
    header = ("model", "L2 error", "opaque", "original %", "compile s", "MMACs", "result", "kernels")
    rows = [_fact_row(row) for row in run.models]
    return render(header, rows, right=header[1:6])


def _fact_row(row: Row) -> tuple[str, ...]:
    share = row["original_share"]
    macs = row["work"].get("macs_after")
    return (
        row["name"],
        _number(row["l2_rel_err"], ".1e"),
        str(len(row["opaque"])),
        _number(None if share is None else 100 * share, ".0f"),
        _number(row["compile_s"], ".1f"),
        _number(None if macs is None else macs / 1e6, ",.1f"),
        "failed" if row["status"] != "ok" else str(row["result"].get("status", "")),
        ", ".join(f"{kind} {count}" for kind, count in row["kernels"].items()),
    )


def _remarks(run: Run) -> list[str]:
    """Lists what failed, what a peer could not run, and why an original was handed out."""
    lines = []
    for row in run.models:
        if row["status"] != "ok":
            lines.append(f"{row['name']}: failed: {row['reason']}")
        lines += [
            f"{row['name']}: {peer} {facts['status']}: {facts['reason']}"
            for peer, facts in row["peers"].items()
            if facts["status"] != "ok"
        ]
        if row["result"].get("status") == "original":
            lines.append(f"{row['name']}: the original is handed out: {row['result'].get('reason')}")
    return ["", *lines] if lines else []


def _ratio(row: Row, peer: str) -> str:
    ratio = row["ratio"].get(peer)
    if ratio is None:
        return str(row["peers"].get(peer, {}).get("status", ""))
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _number(value: Any, spec: str) -> str:
    return "" if value is None else format(value, spec)
