"""What a verification found: a value that prints itself as a table and becomes a plain dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tpopt.rewrite.numerics import Numerics


@dataclass(frozen=True, kw_only=True)
class OutputRow:
    """One output on one set of inputs.

    Attributes:
        inputs: the inputs' kind, with their seed where they have one.
        name: the output's name in the program.
        dtype: its element type.
        l2_rel: relative L2 error of the candidate against float64, over what is finite; None for exact types.
        eager: the same for the original.
        limit: the largest error that is admitted.
        max_abs: largest absolute difference between candidate and original, over what is finite in both.
        invented: elements that are NaN or infinite in the candidate alone.
        mismatches: elements of an exact type that differ without an excuse.
        note: why it failed, or what was excused.
        passed: whether the output is admitted.
    """

    inputs: str
    name: str
    dtype: str
    l2_rel: float | None = None
    eager: float | None = None
    limit: float | None = None
    max_abs: float = 0.0
    invented: int = 0
    mismatches: int = 0
    note: str = ""
    passed: bool = True


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The comparison of a candidate with the original and with a float64 reference.

    Attributes:
        programs: number of input sets that were compared.
        l2_rel: largest relative L2 error of an output on ordinary inputs.
        max_abs: largest absolute difference between candidate and original there.
        tolerance: the limit of the output with that largest error.
        seed: seed of the random inputs.
        passed: whether every output was admitted.
        numerics: the label that decided the limits.
        rows: every output on every set of inputs.
        worst: name of the output that is closest to its limit, or furthest beyond.
        kinds: kinds of inputs that were tried, in order.
        reference: what computed the reference.
        notes: what was left out, and why.
        certificate: one line that names the program, the figures, and how to get them again.
    """

    programs: int
    l2_rel: float
    max_abs: float
    tolerance: float
    seed: int
    passed: bool
    numerics: Numerics
    rows: tuple[OutputRow, ...]
    worst: str
    kinds: tuple[str, ...]
    reference: str
    notes: tuple[str, ...] = ()
    certificate: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {**asdict(self), "numerics": self.numerics.label}

    def __str__(self) -> str:
        verdict = "verified" if self.passed else "NOT VERIFIED"
        first = f"{verdict} ({self.numerics}): {self.programs} input sets against {self.reference}, seed {self.seed}"
        headers = ("error", "eager", "allowed", "max abs", "inputs", "output", "note")
        rows = [
            (_short(r.l2_rel), _short(r.eager), _short(r.limit), _short(r.max_abs), r.inputs, r.name, r.note or "ok")
            for r in self.rows
        ]
        return "\n".join([first, *aligned(headers, rows), *(f"  {n}" for n in self.notes)])


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns padded to one width; the last is free."""
    lines = [headers, *rows]
    widths = [max(len(line[c]) for line in lines) for c in range(len(headers) - 1)]
    return [
        "  " + "   ".join([*(v.ljust(w) for v, w in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]


def summary(
    rows: Sequence[OutputRow],
    *,
    seed: int,
    numerics: Numerics,
    kinds: Sequence[str],
    ordinary: Sequence[str],
    reference: str,
    notes: Sequence[str],
    digest: str,
) -> Verification:
    """The verification that its rows amount to; figures are of the ``ordinary`` kinds of inputs alone."""
    usual = [r for r in rows if r.inputs in ordinary]
    largest = max(usual, key=lambda r: r.l2_rel or 0.0, default=None)
    worst = max(rows, key=_closeness, default=None)
    passed = all(r.passed for r in rows) and bool(rows)
    error = (largest.l2_rel or 0.0) if largest else 0.0
    allowed = (largest.limit or 0.0) if largest else 0.0
    line = (
        f"{digest} {numerics} {'passed' if passed else 'failed'} l2_rel={error:.3e} allowed={allowed:.3e}"
        f" seed={seed} inputs={','.join(kinds)} reference={reference.replace(' ', '-')}"
    )
    return Verification(
        programs=len(kinds),
        l2_rel=error,
        max_abs=max((r.max_abs for r in usual), default=0.0),
        tolerance=allowed,
        seed=seed,
        passed=passed,
        numerics=numerics,
        rows=tuple(rows),
        worst=worst.name if worst else "",
        kinds=tuple(kinds),
        reference=reference,
        notes=tuple(notes),
        certificate=line,
    )


def _closeness(row: OutputRow) -> tuple[bool, float]:
    """Failures first, then by the share of the limit that is used."""
    if row.l2_rel is None or not row.limit:
        return not row.passed, float(row.mismatches > 0)
    return not row.passed, row.l2_rel / row.limit
