"""What ``optimize`` and ``explain`` share: the options of a compilation, and running one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tpopt.commands.output import progress_bar, say, stdout_is_stderr
from tpopt.commands.target import EXPORTED, Target, load_target, runs_no_code
from tpopt.options import Options

if TYPE_CHECKING:
    from tpopt.runtime.compiled import CompiledModel

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="FILE.py:FUNCTION (its code is executed), or FILE.tpg, .onnx, .pt2.", show_default=False
    ),
]
Effort = Annotated[str, typer.Option(help="One budget for everything: fast, balanced, max, or seconds.")]
Choice = Annotated[str, typer.Option(help="measured times the best candidates; model decides by cost models alone.")]
Kernels = Annotated[str, typer.Option(help="Which may be used: all, library, or generated.")]
Tolerance = Annotated[float, typer.Option(help="Relative L2 error that a rule which amplifies rounding may reach.")]
Strict = Annotated[bool, typer.Option("--strict", help="Keep IEEE behaviour for non-finite values.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not check the result against the original.")]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Keep the result even when it is not faster.")]
Records = Annotated[Path | None, typer.Option(help="File of measurements to read and extend.", show_default="cache")]
Pipeline = Annotated[
    str, typer.Option("--pipeline", "-p", help='A pipeline, or passes such as "fold-constants,dead-code".')
]
Budget = Annotated[
    str | None, typer.Option(help='What may be spent, such as "error<=2e-2".', show_default="as exact as the model")
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Modules that stay as they are, such as encoder.*; repeatable.")
]
Trust = Annotated[bool, typer.Option("--trust", help="Open a .pt2 file, which may run code that is in it.")]
Seed = Annotated[int, typer.Option(help="Seed of every random input.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]


def options_of(*, effort: str, no_verify: bool, no_gate: bool, exclude: list[str] | None, **fields: Any) -> Options:
    """Returns the Options that the command line spells.

    Raises:
        UsageError: a value of a wrong kind or range.
    """
    spelled = {"effort": _effort(effort), "verify": not no_verify, "gate": not no_gate, "exclude": tuple(exclude or ())}
    return Options.of(None, {**spelled, **fields})


def announce(spec: str, *, trust: bool) -> None:
    """Says that the user's code is going to run, where it is."""
    if not runs_no_code(spec) and not (spec.endswith(EXPORTED) and not trust):
        say(f"running {spec}: this executes its code")


def compile_target(spec: str, options: Options, *, trust: bool = False) -> CompiledModel:
    """Loads what the user names and compiles it."""
    announce(spec, trust=trust)
    with stdout_is_stderr():
        target = load_target(spec, trust=trust)
    return compile_loaded(target, options)


def compile_loaded(target: Target, options: Options) -> CompiledModel:
    """Compiles a target, with a progress bar on a terminal."""
    with stdout_is_stderr(), progress_bar() as progress:
        import tpopt

        compile_model = cast("Callable[..., Any]", tpopt.compile)
        options = dataclasses.replace(options, progress=progress)
        compiled: CompiledModel = compile_model(target.model, target.inputs, kwargs=target.kwargs, options=options)
    return compiled


def _effort(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
