"""``tpopt profile``: where a call of a compiled model spends its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tpopt.commands import compiling as asked
from tpopt.commands.output import emit, emit_json, say, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tpopt.options import Options
    from tpopt.report.profile import Profile

Rounds = Annotated[int, typer.Option(min=1, help="Timed calls, with a clock after each kernel and without.")]
Trace = Annotated[Path | None, typer.Option(help="Write one call here as a trace for Perfetto or chrome://tracing.")]


def profile(
    target: asked.TargetArgument,
    *,
    rounds: Rounds = 25,
    trace: Trace = None,
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
    """Show where a call spends its time.

    Every kernel of the plan is timed while the plan runs, beside the machine's roofline, the time it takes alone, and
    the candidate that came second. A saved model (.tpg) runs as it is; anything else is compiled first.
    """
    if trace is not None and not trace.parent.is_dir():
        raise UsageError(f"--trace {trace}: there is no folder {trace.parent}")
    options = asked.options_of(
        effort=effort, choice=choice, kernels=kernels, tolerance=tolerance, strict=strict, no_verify=no_verify,
        no_gate=no_gate, records=records, pipeline=pipeline, budget=budget, exclude=exclude, seed=seed,
    )  # fmt: skip
    found = _saved(Path(target), rounds, options) if target.endswith(".tpg") else _fresh(target, rounds, options, trust)
    if trace is not None:
        from tpopt.store.whole import write_whole

        write_whole(trace, json.dumps(found.trace(), allow_nan=False).encode())
        say(f"wrote {trace}")
    if as_json:
        emit_json(found.to_dict())
    else:
        emit(str(found).rstrip("\n"))


def _saved(file: Path, rounds: int, options: Options) -> Profile:
    """Of a saved model, on the example inputs of the file."""
    with stdout_is_stderr():
        import tpopt
        from tpopt._saved.load import read
        from tpopt._saved.targets import arguments, example_tensors

        if not file.is_file():
            raise UsageError(f"there is no file {file}")
        saved = read(file)
        args, kwargs = arguments(saved, example_tensors(saved, options.seed))
        return _profile(tpopt.load(file), args, kwargs, rounds, options)


def _fresh(target: str, rounds: int, options: Options, trust: bool) -> Profile:
    """Of what the user names, compiled now, on its example inputs."""
    asked.announce(target, trust=trust)
    with stdout_is_stderr():
        from tpopt._compile.door import positional

        made = load_target(target, trust=trust)
    compiled = asked.compile_loaded(made, options)
    with stdout_is_stderr():
        return _profile(compiled, positional(made.inputs), made.kwargs or {}, rounds, options)


def _profile(compiled: Any, args: Any, kwargs: dict[str, Any], rounds: int, options: Options) -> Profile:
    import tpopt

    time_kernels = cast("Callable[..., Profile]", tpopt.profile)
    return time_kernels(compiled, *args, rounds=rounds, records=options.records, **kwargs)
