"""``tpopt optimize``: compiles what a function of the user returns, and prints the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands import compiling as asked
from tpopt.commands.output import emit, emit_json, say
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt.report import Report

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Also save here: the compiled model (.tpg), or the report (any other name, JSON)."
    ),
]


def optimize(
    target: asked.TargetArgument,
    *,
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
    out: Out = None,
) -> None:
    """Compile a model, and print the report.

    FUNCTION returns (model, inputs), (model, inputs, kwargs), or a model with an attribute example_inputs. It lives in
    a file, or in an importable module (package.module:FUNCTION). A .tpg is a model that tpopt saved; it is chosen anew
    for this machine. Ctrl-C keeps the best result so far.
    """
    options = asked.options_of(
        effort=effort, choice=choice, kernels=kernels, tolerance=tolerance, strict=strict, no_verify=no_verify,
        no_gate=no_gate, records=records, pipeline=pipeline, budget=budget, exclude=exclude, seed=seed,
    )  # fmt: skip
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    compiled = asked.compile_target(target, options, trust=trust)
    report: Report = compiled.report
    if out is not None:
        if out.suffix == ".tpg":
            compiled.save(out)
        else:
            from tpopt.report import write_report

            write_report(report, out)
        say(f"saved the {'model' if out.suffix == '.tpg' else 'report'} to {out}")
    if as_json:
        emit_json(report.to_dict())
    else:
        emit(str(report))
