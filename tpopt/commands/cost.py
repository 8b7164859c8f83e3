"""``tpopt cost``: collect trials, train rankers of candidates, and say how well they rank, here and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json, say
from tpopt.commands.tuning import DEVICE, Cluster, Resource, TrialsFile, workers
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt.backend.generated.machine import Processor
    from tpopt.backend.tvm.tune.collect import Progress
    from tpopt.cost_models.ranking import Trials

_COLUMNS: Final = ("pairwise", "top1", "top5", "median_top1", "worst")

cost = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Out = Annotated[Path, typer.Option("--out", "-o", help="File of the trained ranker (.safetensors; .json beside it).")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of a kernel.")]
VectorBytes = Annotated[
    int | None,
    typer.Option("--vector-bytes", help="Of a vector register: 32 collects for AVX2.", show_default="host's"),
]
Device = Annotated[
    str | None, typer.Option("--device", help="Only trials of devices whose descriptor contains this text.")
]
Prune = Annotated[float, typer.Option("--prune", help="Leave out this share of the trials, the most redundant.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Seeds: of drawn shapes, or of splits.")]


@cost.callback()
def _cost() -> None:
    """Cost models of generated kernels that learn from trials. docs/tuning.md explains them."""


@cost.command()
def collect(
    *,
    seconds: Annotated[float, typer.Option("--seconds", help="No batch begins later.")] = 600.0,
    seeds: Seeds = 12,
    each: Annotated[int, typer.Option("--each", help="Ways to run each kernel.")] = 32,
    threads: Threads = 1,
    vector_bytes: VectorBytes = None,
    cluster: Cluster = None,
    resource: Resource = None,
    trials: TrialsFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure drawn kernels in many ways; what is known already is not measured again."""
    if min(seconds, seeds, each, threads) <= 0:
        raise UsageError("--seconds, --seeds, --each and --threads must be positive")
    from tpopt.backend.tvm.tune.collect import collect as run
    from tpopt.store.trials import Trials

    kept, processor = Trials(trials), _processor(threads, vector_bytes)
    with workers(cluster, resource) as places:
        done = run(places, kept, processor, seeds=range(seeds), each=each, seconds=seconds, where=DEVICE, tell=_tell)
    if as_json:
        emit_json({"trials": str(kept.path), "measured": done.measured, "failed": done.failed})
    else:
        emit(f"{done.measured} trials measured, {done.failed} failed; kept in {kept.path}")


@cost.command()
def train(
    *,
    out: Out,
    trials: TrialsFile = None,
    device: Device = None,
    prune: Prune = 0.0,
    seeds: Seeds = 5,
    as_json: AsJson = False,
) -> None:
    """Train both kinds of ranker, compare them on held-out families, and write the better one."""
    from tpopt.cost_models.learned import LearnedRanker, compare, fit_networks, fit_ridge

    data = _data(trials, device, prune)
    compared = compare(data, range(seeds))
    made = fit_networks(data) if compared.ships == "lambdarank" else fit_ridge(data)
    report = compared.to_dict()
    about = {"trials": len(data), "tasks": len(data.groups()), "report": report}
    LearnedRanker(made.kind, made.mean, made.scale, made.members, about).save(out)
    _show(report["mean"], {"written": str(out), **report}, as_json)
    say(f"wrote {out}: {made.kind}, from {len(data)} trials of {len(data.groups())} kernels")


@cost.command()
def evaluate(
    *,
    trials: TrialsFile = None,
    device: Device = None,
    prune: Prune = 0.0,
    seeds: Seeds = 5,
    as_json: AsJson = False,
) -> None:
    """Say how well rankers rank kernels of families that they have not seen; --prune trains on less."""
    import numpy as np

    from tpopt.cost_models.learned import compare, fit_networks
    from tpopt.cost_models.ranking import score, split
    from tpopt.cost_models.transfer import prune as pruned

    data = _data(trials, device, 0.0)
    report = compare(data, range(seeds)).to_dict()
    if prune:
        rows = []
        for seed in range(seeds):
            train_on, test = split(data, seed)
            rows.append(score(fit_networks(pruned(train_on, prune), seed).predict(test.features)[0], test))
        name = f"lambdarank, {prune:.0%} pruned"
        report["mean"][name] = {n: float(np.mean([getattr(s, n) for s in rows])) for n in _COLUMNS}
        report["seeds"][name] = [s.to_dict() for s in rows]
    _show(report["mean"], report, as_json)


@cost.command()
def transfer(
    *,
    source: Annotated[str, typer.Option("--from", help="Text in the descriptor of the device that much is known of.")],
    target: Annotated[str, typer.Option("--to", help="Text in the descriptor of the device with few labels.")],
    labels: Annotated[int, typer.Option("--labels", help="Trials of the target that may be used.")] = 256,
    trials: TrialsFile = None,
    seeds: Seeds = 5,
    as_json: AsJson = False,
) -> None:
    """Say how well a ranker does on another device with few labels, next to starting from nothing and to all data."""
    import numpy as np

    from tpopt.cost_models.transfer import transfer as run

    known, few = _data(trials, source, 0.0), _data(trials, target, 0.0)
    found = [run(known, few, labels=labels, seed=seed) for seed in range(seeds)]
    means = {
        way: {n: float(np.mean([getattr(f.ways[way], n) for f in found])) for n in _COLUMNS} for way in found[0].ways
    }
    _show(means, {"labels": labels, "mean": means, "seeds": [f.to_dict() for f in found]}, as_json)


def _processor(threads: int, vector_bytes: int | None) -> Processor:
    """This machine's processor with so many threads, or as one with narrower vectors."""
    from dataclasses import replace

    from tpopt.backend.generated.machine import host_processor

    host = replace(host_processor(), threads=threads)
    if vector_bytes is None or vector_bytes == host.vector_bytes:
        return host
    if vector_bytes not in (16, 32) or vector_bytes > host.vector_bytes:
        raise UsageError(f"--vector-bytes {vector_bytes}: expected 16 or 32, and at most {host.vector_bytes}")
    return replace(host, vector_bytes=vector_bytes, registers=16)


def _data(path: Path | None, device: str | None, share: float) -> Trials:
    """Trials as arrays. Raises UsageError where there are too few to learn from."""
    from tpopt.backend.tvm.tune.dataset import arrays
    from tpopt.cost_models.transfer import prune
    from tpopt.store.trials import Trials as Store

    store = Store(path)
    found = arrays(t for t in store.of(done=True) if device is None or device in t.device)
    if len(found.groups()) < 2:
        wanted = f" of devices with {device!r}" if device else ""
        raise UsageError(f"{store.path} has {len(found)} trials{wanted}: run `tpopt cost collect` first")
    return prune(found, share)


def _show(means: dict[str, dict[str, float]], report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(report)
        return
    from tpopt.report.render import table

    rows = [(*(f"{scores[n]:.3f}" for n in _COLUMNS), name) for name, scores in means.items()]
    emit(table((*_COLUMNS, "ranker"), rows).rstrip("\n"))


def _tell(progress: Progress) -> None:
    say(f"{progress.measured} trials measured, {progress.failed} failed")
