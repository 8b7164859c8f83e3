"""What ``print(report)`` shows: the answer first, then what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tpopt.report.facts import KernelRow, ResultRow
from tpopt.report.render import counted, interval, lines_of, number, percent, plain, scientific, table

if TYPE_CHECKING:
    from tpopt.report.report import Report

SLOWEST: Final = 5
"""Kernels listed one by one; the others are counted by kind."""

LISTED: Final = 20
"""Rows of any other list; the rest is in ``to_dict()``."""

_MIB: Final = 2**20


def summary(report: Report) -> str:
    """Returns the whole table; a section without facts is left out."""
    sections = (
        _work, _kinds, _slowest, opaque_operators, _passes, _derivations, _pareto, _verification, _memory, _environment,
    )  # fmt: skip
    texts = (f"{headline(report.result)}\n", *(section(report) for section in sections))
    return "\n".join(text for text in texts if text).rstrip("\n")


def headline(result: ResultRow) -> str:
    """Returns what the user got in one line."""
    reason = plain(result.reason)
    timed = ""
    if result.speedup is not None:
        timed = f" {number(result.speedup, 2)}x {interval(result.low, result.high, 2)}".rstrip()
    if result.status == "original":
        return f"original kept{f' (the plan:{timed})' if timed else ''}: {reason}"
    return f"optimized{timed}: {reason}"


def time_of(kernel: KernelRow) -> float | None:
    """Returns the microseconds that a kernel counts with: measured, else predicted."""
    return kernel.predicted_us if kernel.measured_us is None else kernel.measured_us


def _work(report: Report) -> str:
    work = report.work
    if work.macs_before is None and work.bytes_before is None:
        return ""
    rows = [
        ("MACs (millions)", *_change(work.macs_before, work.macs_after, 1e6)),
        ("bytes moved (MiB)", *_change(work.bytes_before, work.bytes_after, _MIB)),
    ]
    text = table(("work", "before", "after", "change"), rows, right=("before", "after", "change"))
    if work.macs_algebra_share is None:
        return text
    opaque = f"{number(_over(work.macs_opaque, 1e6), 1)} million are in opaque operators"
    return f"{text}  {percent(work.macs_algebra_share)} of the MACs are tensor algebra; {opaque}\n"


def _change(before: int | None, after: int | None, unit: float) -> tuple[str, str, str]:
    change = f"{100 * (after / before - 1):+.1f} %" if before and after is not None else "-"
    return number(_over(before, unit), 1), number(_over(after, unit), 1), change


def _over(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _kinds(report: Report) -> str:
    if not report.kernels:
        return ""
    total = sum(time_of(k) or 0.0 for k in report.kernels)
    rows = []
    for kind in dict.fromkeys(k.kind for k in report.kernels):
        own = [k for k in report.kernels if k.kind == kind]
        known = [t for k in own if (t := time_of(k)) is not None]
        spent = sum(known) if known else None
        rows.append((spent or 0.0, (str(len(own)), number(spent, 1), _share(spent, total), kind)))
    rows.sort(key=lambda row: -row[0])
    headers = ("count", "time (µs)", "share (%)", "kernels by kind")
    note = f"  {percent(report.original_share)} of the time is in original operators\n"
    return table(headers, [cells for _, cells in rows], right=headers[:3]) + note


def _share(spent: float | None, total: float) -> str:
    return number(100 * spent / total, 1) if spent is not None and total else "-"


def _slowest(report: Report) -> str:
    timed = [k for k in report.kernels if time_of(k) is not None]
    slowest = sorted(timed, key=lambda k: -(time_of(k) or 0.0))[:SLOWEST]
    if not slowest:
        return ""
    headers = ("measured (µs)", "predicted (µs)", "kind", "slowest kernels", "source")
    rows = [(number(k.measured_us, 1), number(k.predicted_us, 1), k.kind, k.name, lines_of(k.source)) for k in slowest]
    return table(headers, rows, right=headers[:2])


def opaque_operators(report: Report) -> str:
    """Returns the operators without algebra, each with the reason."""
    rows = [(o.target, o.name, o.reason, lines_of(o.source)) for o in report.opaque]
    return _listed(("opaque operator", "name", "reason", "source"), rows)


def _passes(report: Report) -> str:
    rows = []
    for p in report.passes:
        refused = "; ".join(f"{r.count}x {r.reason}" for r in p.refused)
        rows.append((p.name, number(p.applied), number(1e3 * p.seconds, 1), refused or "-"))
    return _listed(("pass", "applied", "time (ms)", "refused"), rows, right=("applied", "time (ms)"))


def _derivations(report: Report) -> str:
    rows = [(", ".join(d.cover), ", ".join(d.laws)) for d in report.derivations]
    return _listed(("derived", "laws"), rows)


def _pareto(report: Report) -> str:
    rows = [
        (
            number(p.predicted_us, 1), scientific(p.predicted_error), scientific(p.measured_error),
            number(p.drop, 4), p.status, p.note or "-",
        )
        for p in report.pareto
    ]  # fmt: skip
    headers = ("plans within the budget (µs)", "predicted error", "measured error", "drop", "status", "note")
    return _listed(headers, rows, right=headers[:4])


def _listed(headers: tuple[str, ...], rows: Sequence[Sequence[str]], right: tuple[str, ...] = ()) -> str:
    if not rows:
        return ""
    rest = f"  ... and {len(rows) - LISTED:,} more, in to_dict()\n" if len(rows) > LISTED else ""
    return table(headers, rows[:LISTED], right=right) + rest


def _verification(report: Report) -> str:
    v = report.verification
    if v.passed is None:
        return "not verified\n"
    verdict = "verified" if v.passed else "NOT VERIFIED"
    error = f"relative L2 error {scientific(v.l2_rel)} (allowed {scientific(v.tolerance)})"
    return f"{verdict}: {counted(v.programs, 'input set')}, {error}, max abs {scientific(v.max_abs)}, seed {v.seed}\n"


def _memory(report: Report) -> str:
    m = report.memory
    if not (m.arena_bytes or m.owned_peak_bytes or m.weights_bytes):
        return ""
    headers = ("arena (MiB)", "owned peak (MiB)", "weights (MiB)")
    sizes = [number(size / _MIB, 2) for size in (m.arena_bytes, m.owned_peak_bytes, m.weights_bytes)]
    return table(headers, [sizes], right=headers)


def _environment(report: Report) -> str:
    e = report.environment
    versions = ", ".join(f"{p.name} {p.value}" for p in e.packages)
    rows = [
        ("compile time", f"{number(report.compile_seconds, 1)} s"),
        ("device", f"{e.device}: {e.cpu}" if e.device == "cpu" else f"{e.device} (host: {e.cpu})"),
        ("instruction sets", " ".join(e.isa) or "-"),
        ("threads", f"{e.threads} of {counted(e.cores, 'core')}"),
        ("system", e.platform),
        ("versions", f"tpopt {e.tpopt}, python {e.python}, {versions}"),
        ("variables", " ".join(f"{s.name}={s.value}" for s in e.settings) or "-"),
        ("options", " ".join(f"{s.name}={s.value}" for s in e.options) or "-"),
    ]
    return table(("environment", ""), rows)
