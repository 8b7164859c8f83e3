"""What ``tune`` and ``cost`` share: where trials run, and the ranker that leads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt.cost_models.learned import LearnedRanker
    from tpopt.executors.jobs import Workers

Cluster = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", help="Measure on this Ray cluster, not here.")
]
Resource = Annotated[
    list[str] | None,
    typer.Option("--resource", metavar="NAME=AMOUNT", help="What one worker of the cluster needs; repeatable."),
]
TrialsFile = Annotated[Path | None, typer.Option("--trials", help="File of tuning records.", show_default="cache")]
ModelFile = Annotated[Path | None, typer.Option("--model", help="A trained ranker.", show_default="tpopt's own")]
DEVICE: Final = "worker"
"""What jobs call the one kind of worker that a command asks for."""


@contextmanager
def workers(cluster: str | None, resource: list[str] | None) -> Iterator[Workers]:
    """One worker here, so that nothing is timed beside another trial, or all that a cluster has.

    Raises UsageError for resources without a cluster, or that are no NAME=AMOUNT.
    """
    from tpopt.backend.tvm.tune.trial import MODULES
    from tpopt.executors.local import LocalWorkers

    made: Workers
    if cluster is None:
        if resource:
            raise UsageError("--resource says what workers of a cluster need: give --cluster as well")
        made = LocalWorkers(1, modules=MODULES, device=DEVICE)
    else:
        from tpopt.executors.cluster import RayWorkers

        made = RayWorkers(cluster, devices={DEVICE: needs(resource)}, modules=MODULES)
    try:
        yield made
    finally:
        made.close()


def needs(resource: list[str] | None) -> dict[str, float]:
    """Resources as Ray takes them; one CPU by default. Raises UsageError for text of another form."""
    found = {}
    for text in resource or ["CPU=1"]:
        name, _, amount = text.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise UsageError(f"--resource {text}: expected NAME=AMOUNT, such as GPU=1") from None
        if not name or not found[name] > 0:
            raise UsageError(f"--resource {text}: expected a name and a positive amount")
    return found


def ranker(path: Path | None) -> LearnedRanker | None:
    """The ranker of a file, else the one that comes with tpopt. Raises CorruptFile."""
    from tpopt.cost_models import default_ranker
    from tpopt.cost_models.learned import LearnedRanker

    return default_ranker() if path is None else LearnedRanker.load(path)
