"""A run against a saved one: what is counted must be equal, and what is timed must not be clearly slower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from tpopt.bench.run import Row, Run
from tpopt.bench.suites import is_selected
from tpopt.errors import PerformanceRegression, UsageError

Verdict = Literal["same", "better", "worse", "changed"]
FAILING: Final = ("worse", "changed")
DEFAULT_THRESHOLD: Final = 1.05

LESS_IS_BETTER: Final = (("work", "macs_after"), ("work", "bytes_after"), ("memory", "arena_bytes"))
GIVEN: Final = (("work", "macs_before"), ("work", "bytes_before"))
"""Figures of the model as it came; when they differ, the model or the counting did, and the rest means little."""


@dataclass(frozen=True)
class Finding:
    """One figure of one model in both runs."""

    model: str
    figure: str
    base: str
    new: str
    verdict: Verdict

    @property
    def fails(self) -> bool:
        return self.verdict in FAILING


@dataclass(frozen=True)
class Comparison:
    """The findings of :func:`compare_runs`, in the order of the models."""

    findings: tuple[Finding, ...]
    threshold: float

    def failing(self) -> tuple[Finding, ...]:
        """Returns what is worse, or changed in a way that a person has to judge."""
        return tuple(finding for finding in self.findings if finding.fails)

    def check(self) -> None:
        """Raises when anything fails.

        Raises:
            PerformanceRegression: names the first findings and says how to accept them.
        """
        failing = self.failing()
        if not failing:
            return
        shown = "; ".join(f"{f.model} {f.figure}: {f.base} → {f.new} ({f.verdict})" for f in failing[:3])
        more = f"; and {len(failing) - 3} more" if len(failing) > 3 else ""
        raise PerformanceRegression(f"{shown}{more}. If this is meant, save a new baseline: tpopt bench --json FILE")

    def to_dict(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "passed": not self.failing(),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        from tpopt.bench.table import comparison_text

        return comparison_text(self)


def compare_runs(base: Run, new: Run, *, threshold: float = DEFAULT_THRESHOLD) -> Comparison:
    """Compares two runs of the same suite.

    When both chose by model, MACs, bytes, arena, opaque stages and kernels by kind must be equal: less is better, more
    is worse, another mix of kernels is a change. Times are compared through the ratio to a peer that both runs have,
    eager if possible, and count only when the whole interval of the slowdown lies beyond ``threshold``.

    Raises:
        UsageError: a threshold below 1, different suites, or runs without any figure in common.
    """
    if threshold < 1:
        raise UsageError(f"threshold={threshold}: expected at least 1, such as {DEFAULT_THRESHOLD} for 5 % slower")
    if base.config.suite != new.config.suite:
        raise UsageError(f"the baseline is of suite {base.config.suite!r}, this run is of {new.config.suite!r}")
    counted = base.config.choice == new.config.choice == "model"
    findings: list[Finding] = []
    for row in base.models:
        if is_selected(row["name"], new.config.models):
            findings += _compare_rows(row, new.row(row["name"]), counted, threshold)
    if not findings:
        raise UsageError(
            "the two runs have no figure in common: counted figures need --choice model in both, "
            "and times need a model and a peer that both have"
        )
    return Comparison(tuple(findings), threshold)


def _compare_rows(base: Row, new: Row | None, counted: bool, threshold: float) -> Iterator[Finding]:
    if new is None or new["status"] != "ok" or base["status"] != "ok":
        yield _outcome(base, new)
        return
    if counted:
        yield from _counted(base, new)
    yield from _timed(base, new, threshold)


def _outcome(base: Row, new: Row | None) -> Finding:
    """Judges a model that has no result in one of the runs."""
    now = "missing" if new is None else str(new["status"])
    why = f": {new['reason']}" if new is not None and new["reason"] else ""
    verdict: Verdict = "better" if now == "ok" else "worse" if base["status"] == "ok" else "same"
    return Finding(base["name"], "status", base["status"], now + why, verdict)


def _counted(base: Row, new: Row) -> Iterator[Finding]:
    name = base["name"]
    for group, key in GIVEN:
        before, after = base[group].get(key), new[group].get(key)
        yield Finding(name, key, _figure(before), _figure(after), "same" if before == after else "changed")
    for group, key in LESS_IS_BETTER:
        before, after = base[group].get(key), new[group].get(key)
        yield Finding(name, key, _figure(before), _figure(after), _less_is_better(before, after))
    before, after = len(base["opaque"]), len(new["opaque"])
    yield Finding(name, "opaque", _figure(before), _figure(after), _less_is_better(before, after))
    yield Finding(name, "kernels", _mix(base), _mix(new), _mix_verdict(base["kernels"], new["kernels"]))


def _timed(base: Row, new: Row, threshold: float) -> Iterator[Finding]:
    shared = [peer for peer in base["ratio"] if peer in new["ratio"]]
    if not shared:
        return
    peer = "eager" if "eager" in shared else shared[0]
    before, after = base["ratio"][peer], new["ratio"][peer]
    low, high = before["low"] / after["high"], before["high"] / after["low"]
    verdict: Verdict = "worse" if low > threshold else "better" if high < 1 / threshold else "same"
    yield Finding(base["name"], f"speed / {peer}", _interval(before), _interval(after), verdict)


def _less_is_better(before: object, after: object) -> Verdict:
    if before == after:
        return "same"
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return "changed"
    return "better" if after < before else "worse"


def _mix_verdict(before: dict[str, int], after: dict[str, int]) -> Verdict:
    if before == after:
        return "same"
    if sum(after.values()) > sum(before.values()):
        return "worse"
    grown = [kind for kind in after if after[kind] > before.get(kind, 0)]
    return "changed" if grown else "better"


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else "none"


def _mix(row: Row) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(row["kernels"].items())) or "none"


def _interval(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
