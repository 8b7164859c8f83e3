"""A report as one HTML file: no script, no server, nothing from elsewhere. Only recorded facts are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tpopt.report.facts import CandidateRow, CoverRow, KernelRow
from tpopt.report.report import Report

ROW: Final = 22
"""Height of one bar, in pixels."""
WIDTH: Final = 620
LABEL: Final = 300
MOST_BARS: Final = 60
"""Kernels that are drawn; the others are added up in one bar."""
MOST_OPERATORS: Final = 400

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --line: #d5d9e0; --back: #fff; --bar: #3b6fb6;
  --other: #b9c4d6; --good: #1d7a46; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3b0; --line: #3a4048; --back: #16181c;
  --bar: #6f9fe0; --other: #48566b; --good: #57c98a; --bad: #f2756b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.85rem; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: 0.8rem/1.45 ui-monospace, monospace; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.columns { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.5rem; } .soft { color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); } details { margin: 0.3rem 0; } summary { cursor: pointer; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
"""


@dataclass(frozen=True)
class Graphs:
    """The program before and after, as text, where they are at hand."""

    before: str = ""
    after: str = ""


def page(report: Report, graphs: Graphs | None = None) -> str:
    """The whole page."""
    title = f"tpopt: {report.result.status}"
    if report.result.speedup is not None:
        title = f"tpopt: {report.result.status}, {report.result.speedup:.2f} times as fast"
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(report.result.reason)}</p>",
        _facts(report),
        _waterfall(report),
        _graphs(graphs) if graphs is not None and graphs.before else "",
        _decisions(report.choice),
        _passes(report),
        _derivations(report),
        _opaque(report),
        _environment(report),
    ]
    body = "\n".join(p for p in parts if p)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; ``numbers`` are columns to align on the right."""
    kind = ['class="n"' if n in numbers else "" for n in range(len(headers))]
    top = "".join(f"<th {kind[n]}>{h}</th>" for n, h in enumerate(headers))
    cells = ("".join(f"<td {kind[n]}>{c}</td>" for n, c in enumerate(row)) for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(f'<tr>{c}</tr>' for c in cells)}</tbody></table>"


def _figure(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:,.4g}{unit}"


def _facts(report: Report) -> str:
    result, work, checked, memory = report.result, report.work, report.verification, report.memory
    interval = "" if result.low is None else f" (95 % between {_figure(result.low)} and {_figure(result.high)})"
    verdict = {True: "passed", False: "failed", None: "not made"}[checked.passed]
    color = {True: "good", False: "bad", None: "soft"}[checked.passed]
    rows = [
        ("end to end", "not timed" if result.speedup is None else f"{result.speedup:.3g} times as fast{interval}"),
        ("multiply-adds", f"{_figure(work.macs_before)} before, {_figure(work.macs_after)} after"),
        ("bytes moved", f"{_figure(work.bytes_before)} before, {_figure(work.bytes_after)} after"),
        (
            "check",
            (
                f'<span class="{color}">{verdict}</span> on {checked.programs} sets of inputs: relative L2 error '
                f"{_figure(checked.l2_rel)} against float64, {_figure(checked.tolerance)} allowed"
            ),
        ),
        (
            "memory of a call",
            (
                f"arena {memory.arena_bytes:,} bytes, buffers of libraries {memory.owned_peak_bytes:,} bytes at most, "
                f"weights {memory.weights_bytes:,} bytes"
            ),
        ),
        ("compilation", f"{report.compile_seconds:.1f} s"),
    ]
    return _table(("", ""), rows)


def _waterfall(report: Report) -> str:
    """One bar for each kernel, where it begins when the others before it are done; with its interval."""
    if not report.kernels:
        return ""
    chosen = {c.name: c for row in report.choice for c in row.candidates if c.status == "chosen"}
    bars = [(k, _time(k)) for k in report.kernels]
    total = sum(us for _, us in bars) or 1.0
    shown = sorted(sorted(range(len(bars)), key=lambda n: -bars[n][1])[:MOST_BARS])
    rest = total - sum(bars[n][1] for n in shown)
    lines, begun = [], 0.0
    for place, number in enumerate(shown):
        kernel, us = bars[number]
        lines.append(_bar(place, kernel, us, begun, total, chosen.get(kernel.name)))
        begun += us
    if rest > 0:
        lines.append(_plain_bar(len(shown), f"{len(bars) - len(shown)} others", rest, begun, total))
    height = ROW * len(lines) + 6
    kinds = "measured" if any(k.measured_us is not None for k, _ in bars) else "predicted by the cost model"
    return (
        f"<h2>Where the time goes</h2><p class=soft>{total:,.0f} µs in {len(bars)} kernels, {kinds}; a thin "
        f'line is the 95 % interval of the median.</p><svg viewBox="0 0 {LABEL + WIDTH + 90} {height}" role="img" '
        f'aria-label="time of each kernel">{"".join(lines)}</svg>'
    )


def _time(kernel: KernelRow) -> float:
    return kernel.measured_us if kernel.measured_us is not None else kernel.predicted_us or 0.0


def _bar(place: int, kernel: KernelRow, us: float, begun: float, total: float, candidate: CandidateRow | None) -> str:
    x, y, width = LABEL + WIDTH * begun / total, ROW * place, max(1.5, WIDTH * us / total)
    color = "var(--other)" if kernel.kind in ("original", "view", "layout") else "var(--bar)"
    whisker, end = "", x + width
    if candidate is not None and candidate.low_us is not None and candidate.high_us is not None:
        low, high = (x + WIDTH * v / total for v in (candidate.low_us, candidate.high_us))
        end = max(end, high)
        whisker = f'<path d="M{low:.1f} {y + 11}H{high:.1f}" stroke="var(--ink)"/>'
    source = escape("; ".join(kernel.source) or kernel.name)
    label = escape(kernel.name if len(kernel.name) <= 44 else f"{kernel.name[:43]}…")
    return (
        f'<g><title>{source}</title><text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{label}</text>'
        f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="14" fill="{color}"/>{whisker}'
        f'<text x="{min(end + 5, LABEL + WIDTH + 25):.1f}" y="{y + 15}">{us:,.1f} µs</text></g>'
    )


def _plain_bar(place: int, label: str, us: float, begun: float, total: float) -> str:
    row = KernelRow(kind="original", name=label)
    return _bar(place, row, us, begun, total, None)


def _graphs(graphs: Graphs) -> str:
    columns = "".join(
        f"<div><h3>{name}</h3><pre>{escape(_statements(text))}</pre></div>"
        for name, text in (("before", graphs.before), ("after", graphs.after or graphs.before))
    )
    return f'<h2>Before and after</h2><div class="columns">{columns}</div>'


def _statements(text: str) -> str:
    """The statements of a program, without what kernels stand for and without declarations of weights."""
    lines = [line for line in text.splitlines() if not line.startswith(("weight ", "  ", "}"))]
    more = f"\n… and {len(lines) - MOST_OPERATORS} more" if len(lines) > MOST_OPERATORS else ""
    return "\n".join(line.removesuffix(" defines {") for line in lines[:MOST_OPERATORS]) + more


def _decisions(rows: Sequence[CoverRow]) -> str:
    if not rows:
        return ""
    return f"<h2>Decisions</h2>{''.join(map(_decision, rows))}"


def _decision(row: CoverRow) -> str:
    candidates = [
        (
            f"<code>{escape(c.name)}</code>", escape(c.kind), _figure(c.price_us),
            "" if c.low_us is None else f"{_figure(c.low_us)} to {_figure(c.high_us)}", _figure(c.predicted_us),
            f'<span class="{"good" if c.status == "chosen" else "soft"}">{c.status}</span>', escape(c.reason),
        )
        for c in row.candidates
    ]  # fmt: skip
    headers = ("candidate", "family", "µs", "95 %", "predicted", "", "why")
    source = f'<p class="soft">{escape("; ".join(row.source))}</p>' if row.source else ""
    cover = escape(", ".join(row.cover))
    return (
        f"<details><summary><code>{cover}</code>: {escape(row.chosen or row.reason)}</summary>{source}"
        f"{_table(headers, candidates, (2, 3, 4))}</details>"
    )


def _passes(report: Report) -> str:
    if not report.passes:
        return ""
    rows = [
        (
            escape(p.name), str(p.applied), f"{p.seconds * 1e3:,.1f}",
            "<br>".join(f"{r.count} × {escape(r.reason)}" for r in p.refused),
        )
        for p in report.passes
    ]  # fmt: skip
    return f"<h2>Rewrites</h2>{_table(('pass', 'applied', 'ms', 'refused'), rows, (1, 2))}"


def _derivations(report: Report) -> str:
    if not report.derivations:
        return ""
    rows = [(escape(", ".join(d.cover)), escape(" → ".join(d.laws))) for d in report.derivations]
    return f"<h2>Derivations</h2>{_table(('tensors', 'laws'), rows)}"


def _opaque(report: Report) -> str:
    if not report.opaque:
        return ""
    rows = [(escape(o.target), escape("; ".join(o.source)), escape(o.reason)) for o in report.opaque]
    return f"<h2>Operators without algebra</h2>{_table(('operator', 'where', 'why'), rows)}"


def _environment(report: Report) -> str:
    e = report.environment
    rows = [
        ("processor", f"{e.cpu}: {' '.join(e.isa)}"),
        ("threads", f"{e.threads} of {e.cores} cores"),
        ("system", f"{e.platform}, python {e.python}, tpopt {e.tpopt}, {e.device}"),
        *((s.name, s.value) for s in (*e.packages, *e.settings, *e.options)),
    ]
    return f"<h2>Environment</h2>{_table(('', ''), [(escape(n), escape(v)) for n, v in rows])}"
