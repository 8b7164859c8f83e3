"""``tpopt bench``, as a function for the command line to register."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tpopt.bench.compare import DEFAULT_THRESHOLD, compare_runs
from tpopt.bench.config import BenchConfig
from tpopt.bench.run import Row, Run, load_run
from tpopt.bench.suite import run_suite
from tpopt.errors import TpoptError

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended: 128 and the number of the signal."""


def bench(  # noqa: PLR0917  # typer reads options from parameters
    suite: Annotated[str, typer.Option(help='"zoo", a path, or a module with a mapping ZOO.')] = "zoo",
    models: Annotated[str | None, typer.Option(help="Names or patterns, separated by commas; all by default.")] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Who else runs: eager,inductor,inductor-max,onnxruntime,openvino; all by default."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Interleaved rounds; 0 takes no times.", min=0)] = None,
    choice: Annotated[str, typer.Option(help='How tpopt chooses: "measured" or "model".')] = "measured",
    effort: Annotated[str, typer.Option(help='"fast", "balanced", "max", or seconds.')] = "balanced",
    budget: Annotated[str | None, typer.Option(help='What tpopt may spend, such as "error<=2e-2".')] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of every contestant.")] = None,
    allocator: Annotated[
        str, typer.Option(help='"retain" keeps freed memory, "stock" is the allocator as is.')
    ] = "retain",
    device: Annotated[str, typer.Option(help="Where models run.")] = "cpu",
    isolate: Annotated[bool, typer.Option(help="Run each model in a process of its own.")] = True,
    limit: Annotated[float, typer.Option(help="Seconds for one model, when isolated.")] = 1800.0,
    json_file: Annotated[str | None, typer.Option("--json", help='Where the run goes as JSON; "-" is stdout.')] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the JSON file.")] = False,
    compare: Annotated[Path | None, typer.Option(help="A saved run; exits with 5 when this one is worse.")] = None,
    threshold: Annotated[float, typer.Option(help="How much slower is slower.")] = DEFAULT_THRESHOLD,
) -> None:
    """Bench a suite of models in interleaved rounds against other compilers."""
    fields: dict[str, Any] = {
        "suite": suite,
        "models": _names(models),
        "rounds": rounds,
        "choice": choice,
        "effort": _effort(effort),
        "budget": budget,
        "threads": threads,
        "allocator": allocator,
        "device": device,
        "isolate": isolate,
        "limit_s": limit,
    }
    if peers is not None:
        fields["peers"] = _names(peers)
    base = None if compare is None else load_run(compare)
    config = BenchConfig(**fields)
    file = None if json_file in (None, "-") else json_file
    run = _run(config, file, resume)
    comparison = None if base is None else compare_runs(base, run, threshold=threshold)
    if json_file == "-":
        verdict = {} if comparison is None else {"comparison": comparison.to_dict()}
        typer.echo(json.dumps(run.to_dict() | verdict, indent=1))
    else:
        typer.echo(str(run) if comparison is None else f"{run}\n\n{comparison}")
    if comparison is not None:
        comparison.check()
    _complain(run)


def _run(config: BenchConfig, file: str | None, resume: bool) -> Run:
    def tell(row: Row, done: int, total: int) -> None:
        seconds = f", compiled in {row['compile_s']:.1f} s" if row["compile_s"] is not None else ""
        outcome = row["reason"] if row["status"] != "ok" else f"{row['result'].get('status', 'done')}{seconds}"
        typer.echo(f"[{done}/{total}] {row['name']}: {outcome}", err=True)

    try:
        return run_suite(config, file=file, resume=resume, on_row=tell)
    except KeyboardInterrupt:
        kept = f"; {file} holds what was finished, and --resume goes on" if file else ""
        typer.echo(f"stopped{kept}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _complain(run: Run) -> None:
    failed = run.failed()
    if failed:
        names = ", ".join(row["name"] for row in failed)
        raise TpoptError(f"{len(failed)} of {len(run.models)} models have no result: {names}")


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _effort(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
