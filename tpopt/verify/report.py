"""Failures in words: what differs, where it began, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tpopt.ir.program import Program
from tpopt.ir.terms import Tensor
from tpopt.ir.to_torch import to_torch
from tpopt.ir.to_torch.setting import bind_symbols
from tpopt.verify.compare import Excuse
from tpopt.verify.divergence import Divergence, first_divergence
from tpopt.verify.inputs import KINDS
from tpopt.verify.reference import Reference, collect
from tpopt.verify.runs import input_sets
from tpopt.verify.tolerance import floor_of, relative_error
from tpopt.verify.verification import OutputRow, Verification

_EXPLAINED = 16.0
"""Times the error of the program in its own types; an original that is further off computes something else."""

_REMEDIES = (
    "compile with exclude=[…] for that module, leave out the pass that rewrote it (pipeline=…), "
    "or raise tolerance= if that error is acceptable"
)


def unfaithful(
    tensor: Tensor,
    original: torch.Tensor,
    truth: torch.Tensor,
    rounded: torch.Tensor,
    coarse: float,
    excuse: Excuse,
) -> str | None:
    """Why a program does not compute what the original computes; None when rounding explains their difference.

    Args:
        tensor: the output.
        original: its value from the user's model.
        truth: from the program in float64.
        rounded: from the program in its own types.
        coarse: the program's :func:`~tpopt.verify.tolerance.coarseness`.
        excuse: finds indices that point at values as good as the reference's.
    """
    start = f"output {tensor.name}: the traced program does not compute what the original model computes"
    end = "The fault lies in the translation of the model, not in an optimization; please report it with the model"
    if original.shape != truth.shape:
        return f"{start}: shape {list(truth.shape)} instead of {list(original.shape)}. {end}"
    if not (original.is_floating_point() or original.is_complex()):
        wrong = (original != truth) & (truth == rounded)
        ties = excuse(tensor.name, original, floor_of(coarse)) if wrong.any() else None
        count = int((wrong if ties is None else wrong & ~ties).sum())
        return f"{start}: {count} elements differ. {end}" if count > original.numel() // 100 else None
    finite = original.isfinite() & truth.isfinite() & rounded.isfinite()
    moved = int((truth.isfinite() & rounded.isfinite() & ~original.isfinite()).sum())
    if moved:
        return f"{start}: {moved} elements of the original are NaN or infinite, the program's are not. {end}"
    error = relative_error(original[finite], truth[finite])
    own = relative_error(rounded[finite], truth[finite])
    allowed = max(_EXPLAINED * own, floor_of(coarse))
    if error <= allowed:
        return None
    return f"{start}: relative L2 {error:.1e} against float64, where rounding explains {allowed:.1e}. {end}"


def failure(result: Verification, program: Program, found: Divergence | None = None) -> str:
    """The message of a failed verification; ``found`` is the stage at which it began, where somebody looked for it."""
    bad = [r for r in result.rows if not r.passed]
    row = _worst(result)
    origin = program.origin(row.name)
    place = f"first stage to differ: {found}" if found else f"output of {'; '.join(origin.lines) or row.name}"
    return (
        f"output {row.name} on {row.inputs} inputs: {row.note or _figures(row)} ({_figures(row)}); "
        f"{len(bad)} of {len(result.rows)} comparisons failed; {place}. What to do: {_REMEDIES}"
    )


def _figures(row: OutputRow) -> str:
    if row.l2_rel is None:
        return f"max abs difference {row.max_abs:.1e}"
    return f"relative L2 error {row.l2_rel:.1e}, allowed {row.limit:.1e}, the original's own {row.eager:.1e}"


def _worst(result: Verification) -> OutputRow:
    """Of the comparisons that failed."""
    bad = [r for r in result.rows if not r.passed]
    return max(bad, key=lambda r: (r.name == result.worst, r.l2_rel or 0.0))


def where(
    result: Verification, program: Program, example: Sequence[torch.Tensor], stages: Callable[..., Any]
) -> Divergence | None:
    """The stage at which a failed verification began: runs the failing inputs once more, stage by stage."""
    row = _worst(result)
    sizes = bind_symbols(program.inputs, [tuple(t.shape) for t in example], {})
    given = next(s for s in input_sets(program, example, sizes, result.seed, KINDS) if s.label == row.inputs)
    with torch.no_grad():
        values = stages(*given.make())
        inputs = [t.cpu() for t in given.make()]
        truth = Reference(program, 0.0).stages(inputs, values)
        usual = collect(to_torch(program, device="cpu"), inputs, values)
    return first_divergence(program, truth, values, baseline=usual)
