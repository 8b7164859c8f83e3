"""``tpopt tune``: search for faster loops of a model's kernels on this machine, or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands.compiling import AsJson, TargetArgument, Trust, announce
from tpopt.commands.output import emit, emit_json, say, stdout_is_stderr
from tpopt.commands.target import load_target
from tpopt.commands.tuning import DEVICE, Cluster, ModelFile, Resource, TrialsFile, ranker, workers
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt.backend.tvm.tune.search import Tuned

Seconds = Annotated[float, typer.Option("--seconds", help="Time for all kernels together.")]
Most = Annotated[int, typer.Option("--most", help="Kernels to tune, those that take longest first.")]


def tune(
    target: TargetArgument,
    *,
    seconds: Seconds = 120.0,
    most: Most = 16,
    cluster: Cluster = None,
    resource: Resource = None,
    trials: TrialsFile = None,
    model: ModelFile = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Search for faster loops of a model's generated kernels.

    What is surely faster becomes a candidate of later compilations on the same kind of machine, which time it against
    the kernel as it was: tuning makes no model slower. Every trial is kept, and an interrupted search goes on.
    """
    if not seconds > 0 or most < 1:
        raise UsageError(f"--seconds {seconds:g} --most {most}: expected a positive time and at least one kernel")
    from tpopt._compile.tuning import tasks_of
    from tpopt.backend.tvm.tune.search import Tuner
    from tpopt.options import Options
    from tpopt.store.trials import Trials

    announce(target, trust=trust)
    with stdout_is_stderr():
        import torch

        loaded = load_target(target, trust=trust)
        inputs = (loaded.inputs,) if isinstance(loaded.inputs, torch.Tensor) else tuple(loaded.inputs)
        tasks = tasks_of(loaded.model.eval(), inputs, loaded.kwargs or {}, Options(), most)
        kept = Trials(trials)
        with workers(cluster, resource) as places:
            tuner = Tuner(places, kept, ranker(model), where=DEVICE, tell=_tell)
            found = tuner.tune(tasks, seconds)
    if as_json:
        emit_json({"trials": str(kept.path), "kernels": [t.to_dict() for t in found]})
    else:
        emit(_table(found))
    better = sum(bool(t.decisions) for t in found)
    say(f"{better} of {len(found)} kernels are faster with other loops; records are in {kept.path}")


def _tell(tuned: Tuned) -> None:
    outcome = f"{tuned.ratio:.2f} of its time" if tuned.decisions else "as it was"
    say(f"{tuned.name}: {outcome} after {tuned.trials} trials")


def _table(found: list[Tuned]) -> str:
    from tpopt.report.render import table

    head = ("before us", "after us", "time", "at most", "trials", "failed", "kernel")
    rows = [
        (
            f"{t.base_us:,.1f}",
            f"{t.base_us * t.ratio:,.1f}",
            f"{t.ratio:.2f}",
            f"{t.high:.2f}",
            str(t.trials),
            str(t.failed),
            t.name,
        )
        for t in found
    ]
    return table(head, rows).rstrip("\n") if rows else "the model has no generated kernel whose loops can be tuned"
