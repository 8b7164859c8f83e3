"""Where a call of a compiled model spends its time: one row a kernel, a table, JSON, and a trace for Perfetto."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tpopt.report.render import interval, lines_of, number, percent, table

LISTED: Final = 20
"""Kernels that the table shows; the others are in ``to_dict()``."""
MOST_OF_THE_TIME: Final = 0.9
"""Share of the time whose kernels count for the share of the roofline."""


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One kernel of the plan, in the order of execution, timed while the whole plan runs.

    Attributes:
        name: what the plan calls it.
        kind: the family: ``original``, ``onednn``, ``generated`` and others.
        us: microseconds, the median over the rounds.
        low: lower end of the 95 % interval of ``us``.
        high: upper end of it.
        source: lines of the model that it comes from.
        macs: multiply-accumulates of the chosen algorithm.
        bytes: bytes that it reads and writes.
        roofline_us: the least microseconds that the machine needs for that; null where its peak is not known.
        bound: what the roofline is: ``compute``, ``memory`` or ``call``.
        alone_us: microseconds at which it was chosen, measured alone or predicted.
        next_best: the candidate that came second; empty where there was none.
        next_best_us: its price.
    """

    name: str
    kind: str
    us: float
    low: float
    high: float
    source: tuple[str, ...] = ()
    macs: int = 0
    bytes: int = 0
    roofline_us: float | None = None
    bound: str = ""
    alone_us: float | None = None
    next_best: str = ""
    next_best_us: float | None = None

    @property
    def roofline_share(self) -> float | None:
        """Least time over time: 1 is as fast as the machine goes."""
        return None if self.roofline_us is None or not self.us else self.roofline_us / self.us


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A profile; ``print`` shows the table, :meth:`to_dict` is JSON, :meth:`trace` what Perfetto and Chrome open.

    Attributes:
        steps: the kernels, in order.
        call_us: microseconds of a whole call without any clock in it, the median over the rounds.
        low: lower end of the 95 % interval of ``call_us``.
        high: upper end of it.
        rounds: calls of either kind that were timed.
        threads: threads that ran them.
        machine: what the roofline rests on: ``gmacs_per_s`` (float32), ``gbytes_per_s`` from memory, ``call_us``; empty
            where other programs held the cores.
        spans: for one call of middling length the begin and end of each step, in nanoseconds from its begin.
    """

    steps: tuple[StepRow, ...]
    call_us: float
    low: float
    high: float
    rounds: int
    threads: int
    machine: Mapping[str, float]
    spans: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def kernels_us(self) -> float:
        """Sum of the steps; what a call takes besides is between them, or the clock's."""
        return sum(s.us for s in self.steps)

    @property
    def longest(self) -> tuple[StepRow, ...]:
        """The longest steps, until they take 90 % of the time."""
        found, spent = [], 0.0
        for step in sorted(self.steps, key=lambda s: -s.us):
            if spent >= MOST_OF_THE_TIME * self.kernels_us:
                break
            found.append(step)
            spent += step.us
        return tuple(found)

    @property
    def roofline_share(self) -> float | None:
        """Geometric mean over the kernels that take 90 % of the time; null where no roofline is known."""
        shares = [share for s in self.longest if (share := s.roofline_share)]
        return math.exp(sum(map(math.log, shares)) / len(shares)) if shares else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the spans, ready for JSON."""
        kept = {k: v for k, v in asdict(self).items() if k != "spans"}
        steps = [
            {**row, "roofline_share": step.roofline_share} for row, step in zip(kept["steps"], self.steps, strict=True)
        ]
        whole = {"kernels_us": self.kernels_us, "roofline_share": self.roofline_share}
        return {**kept, "machine": dict(self.machine), "steps": steps, **whole}

    def trace(self) -> dict[str, Any]:
        """One call in the trace event format, with microseconds since its begin."""
        events: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "tpopt plan"}},
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "kernels"}},
        ]
        for step, (begin, end) in zip(self.steps, self.spans, strict=True):
            events.append(
                {
                    "name": step.name, "cat": step.kind, "ph": "X", "pid": 1, "tid": 1,
                    "ts": begin / 1e3, "dur": (end - begin) / 1e3,
                    "args": {
                        "source": lines_of(step.source), "macs": step.macs, "bytes": step.bytes, "bound": step.bound,
                        "roofline_share": step.roofline_share, "median_us": step.us,
                    },
                }
            )  # fmt: skip
        return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"call_us": self.call_us}}

    def __str__(self) -> str:
        head = (
            f"{number(self.call_us, 1)} µs a call {interval(self.low, self.high, 1)}, median of {self.rounds}; "
            f"{number(self.kernels_us, 1)} µs in {len(self.steps)} kernels, each timed in the call, "
            f"{self.threads} threads\n"
        )
        return f"{head}{self._roofline()}\n{_table(self.steps, self.kernels_us)}{self._rest()}"

    def _roofline(self) -> str:
        if not self.machine:
            return "no roofline: other programs held the cores while the machine was measured\n"
        compute, memory = (number(self.machine[name], 1) for name in ("gmacs_per_s", "gbytes_per_s"))
        return (
            f"roofline: {compute} GMAC/s, {memory} GB/s from memory; the kernels that take 90 % of the time reach "
            f"{percent(self.roofline_share)} of it (geometric mean)\n"
        )

    def _rest(self) -> str:
        left = len(self.steps) - LISTED
        return f"  and {left} shorter ones\n" if left > 0 else ""


def _table(steps: Sequence[StepRow], total: float) -> str:
    headers = (
        "time (µs)", "interval", "share (%)", "roofline (%)", "bound", "alone (µs)", "next best (µs)", "next best",
        "kind", "kernel", "source",
    )  # fmt: skip
    rows = [
        (
            number(s.us, 1), interval(s.low, s.high, 1), number(100 * s.us / total, 1) if total else "-",
            number(None if s.roofline_share is None else 100 * s.roofline_share, 0), s.bound or "-",
            number(s.alone_us, 1), number(s.next_best_us, 1), s.next_best or "-", s.kind, s.name, lines_of(s.source),
        )
        for s in sorted(steps, key=lambda s: -s.us)[:LISTED]
    ]  # fmt: skip
    right = ("time (µs)", "interval", "share (%)", "roofline (%)", "alone (µs)", "next best (µs)")
    return table(headers, rows, right=right)
