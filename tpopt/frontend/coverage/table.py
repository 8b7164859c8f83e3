"""What the survey found: a row for each operator, and the table of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import torch

SIZES = (12, 48)
"""Sizes at which work is measured."""
MOST_WORK = 2.0
"""Times ATen's own work that an operator's algebra may do at either size."""
MOST_GROWTH = 0.25
"""Exponent by which its share may grow with the size: one more logarithm shows as 0.32, one more loop as 1."""


@dataclass(frozen=True)
class Row:
    """One operator: how many of its sample calls are algebra, how many of those agree with torch, and at what work.

    ``work`` is the algebra's work over ATen's on our own sample at each of :data:`SIZES`, empty where that is not
    algebra; ``growth`` is the exponent of the size by which it grows faster than ATen's. ``reason`` says why a sample
    stayed whole, ``failure`` how one that is algebra differs from torch.
    """

    overload: str
    core: bool
    tried: int
    algebra: int
    passed: int
    work: tuple[float, ...]
    reason: str = ""
    failure: str = ""
    growth: float = 0.0

    @property
    def status(self) -> str:
        """``untried`` without samples, ``algebra`` where some are, else ``opaque``.

        Some do not suffice for a core operator: our own, at both sizes, must be among them.
        """
        if not self.tried:
            return "untried"
        return "algebra" if self.algebra and (self.work or not self.core) else "opaque"

    @property
    def excess(self) -> str:
        """How its work exceeds what ATen's allows; empty where it does not."""
        if any(w > MOST_WORK for w in self.work):
            return f"{max(self.work):.2f} times ATen's work"
        if self.growth > MOST_GROWTH:
            return f"work grows by {self.growth:.2f} in the exponent faster than ATen's"
        return ""

    @property
    def defect(self) -> str:
        """Why the row may not count as algebra: it is wrong, or does too much work; else empty."""
        return f"wrong: {self.failure}" if self.failure else self.excess


@dataclass(frozen=True)
class Coverage:
    """The table that ``tpopt coverage`` prints. Where it is not ``checked``, nothing was compared with torch."""

    rows: tuple[Row, ...]
    checked: bool

    @property
    def core(self) -> tuple[Row, ...]:
        """Core ATen overloads."""
        return tuple(r for r in self.rows if r.core)

    @property
    def wrong(self) -> tuple[str, ...]:
        """Operators whose algebra differs from torch."""
        return tuple(r.overload for r in self.rows if r.failure)

    @property
    def excessive(self) -> tuple[str, ...]:
        """Operators whose algebra does too much work."""
        return tuple(r.overload for r in self.rows if r.excess)

    def summary(self) -> dict[str, Any]:
        """The counts: core overloads, those that are algebra without a defect; what is wrong or excessive."""
        counts = Counter(r.status for r in self.core if not r.defect)
        others = Counter(r.status for r in self.rows if not r.core)
        return {
            "torch": torch.__version__,
            "checked": self.checked,
            "core": len(self.core),
            "core_algebra": counts["algebra"],
            "core_opaque": counts["opaque"] + counts["untried"],
            "other_algebra": others["algebra"],
            "other_opaque": others["opaque"],
            "other_untried": others["untried"],
            "wrong": list(self.wrong),
            "excessive": list(self.excessive),
        }

    def to_dict(self) -> dict[str, Any]:
        """The summary and the rows, ready for JSON."""
        return {**self.summary(), "rows": [_row(r) for r in self.rows]}

    def __str__(self) -> str:
        header = ("status", "algebra", "passed", "work", "operator", "")
        cells = [header, *(self._cells(r) for r in self.rows if r.core or r.tried)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*lines, *self._sentences()])

    def _sentences(self) -> list[str]:
        found = self.summary()
        others = sum(found[f"other_{status}"] for status in ("algebra", "opaque", "untried"))
        counted = (
            f"{found['core_algebra']} of {found['core']} core ATen overloads are algebra (torch {found['torch']}); "
            f"{others} others have a lowering, {found['other_untried']} of them without samples"
        )
        lists = {"wrong": self.wrong, "too much work": self.excessive}
        return [counted, *(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)]

    def _cells(self, row: Row) -> tuple[str, ...]:
        work = " ".join(f"{w:.2f}" for w in row.work)
        passed = f"{row.passed}/{row.algebra}" if self.checked else "-"
        return row.status, f"{row.algebra}/{row.tried}", passed, work, row.overload, row.defect or row.reason


def _row(row: Row) -> dict[str, Any]:
    numbers = {"work": [round(w, 4) for w in row.work], "growth": round(row.growth, 4)}
    return {**asdict(row), **numbers, "status": row.status, "defect": row.defect}
