"""One output of the candidate against the original's and the float64 reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tpopt.ir.terms import Tensor as Declared
from tpopt.rewrite.numerics import Numerics
from tpopt.verify.tolerance import EAGER_FACTOR, exact_type, limit, relative_error
from tpopt.verify.verification import OutputRow

Excuse = Callable[[str, Tensor, float], Tensor | None]
"""``(output, candidate, slack) -> mask`` of index elements that point at values as good as the reference's."""


@dataclass(frozen=True)
class Rules:
    """What is admitted: the label, the user's tolerance, the coarsest float type, and IEEE behaviour or not."""

    numerics: Numerics
    tolerance: float
    coarse: float
    strict: bool = False


@dataclass(frozen=True)
class Sample:
    """One output, computed three times on one set of inputs. ``scale`` is its usual L2 norm, for adversarial inputs.

    ``shaken`` is the original's result on inputs rounded to bf16, where a budget admits such rounding: some inputs are
    so far out that a softmax decides between numbers which that rounding makes equal.
    """

    inputs: str
    tensor: Declared
    candidate: Tensor
    original: Tensor
    reference: Tensor
    scale: float = 0.0
    adversarial: bool = False
    shaken: Tensor | None = None


def compare(sample: Sample, rules: Rules, excuse: Excuse) -> OutputRow:
    """The verdict on one output."""
    c, e = sample.candidate, sample.original
    row = OutputRow(inputs=sample.inputs, name=sample.tensor.name, dtype=str(sample.tensor.dtype))
    if c.shape != e.shape or c.dtype != e.dtype:
        note = f"is {c.dtype}{list(c.shape)}, the original gives {e.dtype}{list(e.shape)}"
        return replace(row, note=note, passed=False)
    if rules.numerics is Numerics.EXACT:
        return _bitwise(row, c, e)
    if e.is_floating_point() or e.is_complex():
        return _floats(row, sample, rules)
    return _exact(row, sample, rules, excuse)


def _bitwise(row: OutputRow, candidate: Tensor, original: Tensor) -> OutputRow:
    c, e = exact_type(candidate), exact_type(original)
    same = (c == e) | ((c != c) & (e != e))  # noqa: PLR0124 (only NaN differs from itself)
    wrong = int((~same).sum())
    gap = largest_gap(c, e)
    return replace(
        row,
        limit=0.0,
        max_abs=gap,
        mismatches=wrong,
        note=f"{wrong} elements differ" if wrong else "",
        passed=not wrong,
    )


def largest_gap(c: Tensor, e: Tensor) -> float:
    """Largest absolute difference where both are finite."""
    if not c.numel() or c.dtype is torch.bool:
        return 0.0
    gap = float((c - e).abs().max())
    if math.isfinite(gap):
        return gap
    gaps = (c - e)[c.isfinite() & e.isfinite()].abs()
    return float(gaps.max()) if gaps.numel() else 0.0


def _floats(row: OutputRow, sample: Sample, rules: Rules) -> OutputRow:
    c, e, r = (exact_type(t) for t in (sample.candidate, sample.original, sample.reference))
    error, eager = relative_error(c, r, sample.scale), relative_error(e, r, sample.scale)
    invented = moved = 0
    if not (math.isfinite(error) and math.isfinite(eager)):
        finite = e.isfinite() & r.isfinite()
        both = finite & c.isfinite()
        invented = int((finite & ~both).sum())
        error = relative_error(c[both], r[both], sample.scale)
        eager = relative_error(e[finite], r[finite], sample.scale)
        moved = int((_class(c) != _class(e)).sum()) if rules.strict else 0
    allowed = limit(rules.numerics, eager, rules.tolerance, rules.coarse, adversarial=sample.adversarial)
    if sample.shaken is not None:
        shaken = relative_error(exact_type(sample.shaken), r, sample.scale)
        allowed = max(allowed, EAGER_FACTOR * shaken) if math.isfinite(shaken) else allowed
    notes = []
    if invented:
        notes.append(f"{invented} elements are NaN or infinite where the original and the reference are finite")
    if error > allowed:
        notes.append(f"error is {error / allowed:.1f} times what is allowed" if allowed else "differs")
    if moved:
        notes.append(f"strict: {moved} elements differ from the original in being NaN or an infinity")
    return replace(
        row,
        l2_rel=error,
        eager=eager,
        limit=allowed,
        max_abs=largest_gap(c, e),
        invented=invented,
        note="; ".join(notes),
        passed=not notes,
    )


def _class(value: Tensor) -> Tensor:
    """0 for finite, 1 for NaN, 2 and 3 for the infinities (parts of complex numbers apart)."""
    parts = torch.view_as_real(value) if value.is_complex() else value
    return parts.isnan() * 1 + (parts == float("inf")) * 2 + (parts == -float("inf")) * 3


def _exact(row: OutputRow, sample: Sample, rules: Rules, excuse: Excuse) -> OutputRow:
    """Integers and bools agree with the original or the reference; indices may point at an equally good value."""
    c, e, r = (exact_type(t) for t in (sample.candidate, sample.original, sample.reference))
    wrong = (c != e) & (c != r)
    notes = []
    if wrong.any():
        slack = limit(rules.numerics, 0.0, rules.tolerance, rules.coarse, adversarial=sample.adversarial)
        tied = excuse(sample.tensor.name, c, slack)
        if tied is not None and (wrong & tied).any():
            notes.append(f"{int((wrong & tied).sum())} indices point at values that tie with the reference's")
            wrong = wrong & ~tied
    unsteady = wrong & (e != r)
    if unsteady.any():
        notes.append(f"{int(unsteady.sum())} elements differ where float32 and float64 already decide differently")
        wrong = wrong & ~unsteady
    count = int(wrong.sum())
    if count:
        first = [int(i) for i in wrong.nonzero()[0]]
        at = tuple(first)
        notes.insert(
            0, f"{count} elements differ, the first at {first}: {c[at].item()}, the original has {e[at].item()}"
        )
    return replace(row, max_abs=largest_gap(c, e), mismatches=count, note="; ".join(notes), passed=not count)
