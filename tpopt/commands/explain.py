"""``tpopt explain``: every decision of a compilation, with what competed and why the others lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from tpopt.commands import compiling as asked
from tpopt.commands.output import emit, emit_json
from tpopt.errors import UsageError

KEYS: Final = ("schema_version", "result", "choice", "derivations", "opaque", "passes")
"""The part of a report that says why; ``--json`` prints these."""

Saved = Annotated[Path | None, typer.Option("--report", help="Explain a saved report instead; runs no code.")]
MaybeTarget = Annotated[
    str | None,
    typer.Argument(metavar="[TARGET]", help="FILE.py:FUNCTION (its code is executed), or FILE.tpg, .onnx, .pt2."),
]


def explain(
    target: MaybeTarget = None,
    *,
    saved: Saved = None,
    effort: asked.Effort = "balanced",
    choice: asked.Choice = "measured",
    kernels: asked.Kernels = "all",
    tolerance: asked.Tolerance = 1e-5,
    strict: asked.Strict = False,
    no_verify: asked.NoVerify = False,
    no_gate: asked.NoGate = False,
    records: asked.Records = None,
    pipeline: asked.Pipeline = "default",
    budget: asked.Budget = None,
    exclude: asked.Exclude = None,
    seed: asked.Seed = 0,
    trust: asked.Trust = False,
    as_json: asked.AsJson = False,
) -> None:
    """Say why each decision was made.

    For each one: the lines of the model, what was tried, what won, predicted and measured time, and why the rest lost
    or was refused. Takes the options of tpopt optimize, or a report that it saved.
    """
    if (target is None) == (saved is None):
        raise UsageError("give either a target or --report FILE")
    if saved is not None:
        from tpopt.report import read_report

        report = read_report(saved)
    else:
        assert target is not None
        options = asked.options_of(
            effort=effort, choice=choice, kernels=kernels, tolerance=tolerance, strict=strict, no_verify=no_verify,
            no_gate=no_gate, records=records, pipeline=pipeline, budget=budget, exclude=exclude, seed=seed,
        )  # fmt: skip
        report = asked.compile_target(target, options, trust=trust).report
    if as_json:
        data = report.to_dict()
        emit_json({key: data[key] for key in KEYS})
    else:
        emit(report.explain())
