"""``tpopt derive``: other programs for the regions of a model, with the chain of laws that leads to each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpopt.commands.compiling import AsJson, Pipeline, TargetArgument
from tpopt.commands.output import emit, emit_json, say, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.errors import UnknownName

if TYPE_CHECKING:
    from tpopt.ir import Program
    from tpopt.passes.derive.derivation import Derivation
    from tpopt.rewrite import Trace

WhyNot = Annotated[str | None, typer.Option("--why-not", metavar="LAW", help="Say instead what blocked a law.")]
Save = Annotated[Path | None, typer.Option("--save", metavar="FOLDER", help="Write a certificate of each derivation.")]
Without = Annotated[list[str] | None, typer.Option("--without", metavar="LAW", help="Leave a law out; repeatable.")]
Most = Annotated[int, typer.Option("--most", help="Derivations shown for a region.")]


def derive(
    target: TargetArgument,
    *,
    most: Most = 1,
    without: Without = None,
    why_not: WhyNot = None,
    save: Save = None,
    pipeline: Pipeline = "default",
    as_json: AsJson = False,
) -> None:
    """Show what can be derived from a model, law by law.

    Nothing is compiled or timed: programs are listed that are expected to take less time than the one given.
    """
    from tpopt.passes.derive.explore import Explorer, law_names
    from tpopt.rewrite import Trace

    known = law_names()
    for name in (*(without or ()), *((why_not,) if why_not else ())):
        if name not in known:
            raise UnknownName("law", name, list(known))
    say(f"running {target}: this executes its code")
    with stdout_is_stderr():
        program = _program(target, pipeline)
    trace, start = Trace(), time.perf_counter()
    with trace.within("derive"):
        found = Explorer(program, trace, most=most, without=frozenset(without or ())).run()
    seconds = time.perf_counter() - start
    shown = [d for ranked in found for d in ranked]
    if save is not None:
        _save(save, shown)
    if why_not is not None:
        _refusals(trace, why_not, as_json)
    elif as_json:
        emit_json({"seconds": seconds, "derivations": [_row(d) for d in shown]})
    else:
        emit("\n\n".join(map(_text, shown)) if shown else "nothing was derived that is expected to take less time")
        say(f"{len(shown)} derivations in {seconds:.2f} s")


def _program(target: str, pipeline: str) -> Program:
    """The model's algebra after the passes of a pipeline that always pay."""
    import torch

    from tpopt.frontend.trace import trace
    from tpopt.rewrite import Pipeline as Passes
    from tpopt.rewrite import registry

    loaded = load_target(target)
    inputs = (loaded.inputs,) if isinstance(loaded.inputs, torch.Tensor) else tuple(loaded.inputs)
    traced = trace(loaded.model.eval(), inputs, loaded.kwargs or {})
    passes = registry().parse(pipeline).passes
    return Passes(tuple(p for p in passes if not p.bargain)).run(traced.algebra)


def _save(folder: Path, derivations: list[Derivation]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, derivation in enumerate(derivations):
        file = folder / f"{number}-{derivation.name}.json"
        file.write_text(derivation.certificate().dumps(), encoding="utf-8")
        say(f"wrote {file}")


def _refusals(trace: Trace, law: str, as_json: bool) -> None:
    rows = [
        {"region": ", ".join(e.at), "reason": e.detail} for e in trace.events if e.what == law and e.kind == "refused"
    ]
    if as_json:
        emit_json({"law": law, "refused": rows})
    else:
        emit("\n".join(f"{r['region']}: {r['reason']}" for r in rows) or f"{law} was refused nowhere")


def _row(derivation: Derivation) -> dict[str, Any]:
    before, after = _macs(derivation)
    return {
        "region": derivation.name,
        "laws": list(derivation.laws),
        "macs": {"before": before, "after": after},
        "expected_us": {"before": derivation.before_us, "after": derivation.us},
        "certificate": derivation.certificate().to_dict(),
    }


def _macs(derivation: Derivation) -> tuple[int, int]:
    from tpopt.ir.work import work
    from tpopt.passes.derive.derivation import folded
    from tpopt.passes.derive.estimate import typical_sizes

    programs = (derivation.original, folded(derivation.result))
    before, after = (work(p, typical_sizes(p)).macs for p in programs)
    return before, after


def _text(derivation: Derivation) -> str:
    from tpopt.ir.text import print_stage

    before, after = _macs(derivation)
    work = f"{derivation.name}: {before:,} multiply-adds become {after:,}"
    lines = [
        f"{work}; {derivation.before_us:,.0f} us expected become {derivation.us:,.0f}",
        "  given",
        *(f"    {print_stage(s)}" for s in derivation.original.stages),
    ]
    for step in derivation.steps:
        lines.append(f"  {step.law} ({step.numerics}){': ' if step.detail else ''}{step.detail}")
        lines.extend(f"    {print_stage(s)}" for s in step.program.stages)
    return "\n".join(lines)
