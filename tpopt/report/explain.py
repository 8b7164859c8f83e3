"""What ``report.explain()`` shows: each decision with all that competed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tpopt.report.facts import CandidateRow, CoverRow
from tpopt.report.render import counted, interval, lines_of, number, plain, table
from tpopt.report.table import headline, opaque_operators

if TYPE_CHECKING:
    from tpopt.report.report import Report

_ORDER: Final = ("chosen", "lost", "refused")
_HEADERS: Final = ("verdict", "predicted (µs)", "measured (µs)", "interval (µs)", "kind", "candidate", "reason")
_RIGHT: Final = _HEADERS[1:3]


def explanation(report: Report) -> str:
    """Returns the result, every decision in the order of the model, the opaque operators, and what passes refused."""
    blocks = [headline(report.result) + "\n"]
    if not report.choice:
        blocks.append("no decision was recorded: nothing competed with the original\n")
    blocks += [_decision(i, cover, report) for i, cover in enumerate(report.choice, 1)]
    blocks += [opaque_operators(report), _refusals(report)]
    return "\n".join(block for block in blocks if block).rstrip("\n")


def _decision(position: int, cover: CoverRow, report: Report) -> str:
    tried = counted(len(cover.candidates), "candidate")
    title = f"{position} of {len(report.choice)}: {plain(', '.join(cover.cover))} ({tried})\n"
    source = f"  from    {plain(lines_of(cover.source)) or 'no line of the model'}\n"
    chosen = f"  chosen  {plain(cover.chosen)}: {plain(cover.reason)}\n"
    return title + source + chosen + table(_HEADERS, [_row(c) for c in _ranked(cover)], right=_RIGHT)


def _ranked(cover: CoverRow) -> list[CandidateRow]:
    def rank(candidate: CandidateRow) -> tuple[int, float]:
        price = float("inf") if candidate.price_us is None else candidate.price_us
        return _ORDER.index(candidate.status), price

    return sorted(cover.candidates, key=rank)


def _row(c: CandidateRow) -> tuple[str, ...]:
    times = (number(_predicted(c), 1), number(c.measured_us, 1), interval(c.low_us, c.high_us, 1))
    return (c.status, *times, c.kind, c.name, c.reason)


def _predicted(c: CandidateRow) -> float | None:
    return c.price_us if c.predicted_us is None and c.measured_us is None else c.predicted_us


def _refusals(report: Report) -> str:
    rows = [(p.name, number(r.count), r.reason) for p in report.passes for r in p.refused]
    return table(("pass", "times", "refused because"), rows, right=("times",)) if rows else ""
