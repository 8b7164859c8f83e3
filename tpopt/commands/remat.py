"""``tpopt remat``: a schedule of a graph within a memory budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json, progress_bar, say
from tpopt.errors import KernelBuildFailed, LimitExceeded, UsageError

if TYPE_CHECKING:
    from tpopt.passes.rematerialize import Mode, Schedule
    from tpopt.protocols import AnnealerFactory

Graph = Annotated[Path, typer.Argument(metavar="GRAPH.json", help="Nodes, edges, input order.", show_default=False)]
Budget = Annotated[float | None, typer.Option(help="Part of the input order's peak (up to 1), or bytes (above 1).")]
FixedOrder = Annotated[bool, typer.Option("--fixed-order", help="First computations keep the input order.")]
OrderOnly = Annotated[bool, typer.Option("--order-only", help="Repeat nothing; without --budget, lowest peak.")]
Moccasin = Annotated[bool, typer.Option("--moccasin", help="Solve Moccasin's published program, to compare.")]
Seconds = Annotated[float, typer.Option("--time", help="Seconds to search.")]
MoveCount = Annotated[int | None, typer.Option("--moves", help="Moves to search instead: the same result every time.")]
Seed = Annotated[int, typer.Option(help="Seed of the search.")]
Threads = Annotated[int, typer.Option(help="Threads to search with.")]


def remat(
    graph: Graph,
    *,
    budget: Budget = None,
    fixed_order: FixedOrder = False,
    order_only: OrderOnly = False,
    moccasin: Moccasin = False,
    time: Seconds = 30.0,
    moves: MoveCount = None,
    seed: Seed = 0,
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Schedule a graph within a memory budget.

    Finds a sequence of the graph's nodes, some computed again, whose peak memory keeps the budget in the least time,
    and says how far from optimal it can be. Ends with 7 where no such sequence exists or none was found.
    """
    mode = _mode({"fixed": fixed_order, "order": order_only, "moccasin": moccasin})
    if budget is None and mode != "order":
        raise UsageError("--budget is missing: a part of the input order's peak (0 to 1), or bytes (above 1)")
    from tpopt.passes.rematerialize import Search, budget_in_bytes, read_graph, rematerialize

    read = read_graph(graph)
    limit = None if budget is None else budget_in_bytes(read, budget)
    search = Search(mode, time, moves, seed, threads)
    with progress_bar() as progress:
        found = rematerialize(read, limit, search, annealer=_annealer(), progress=progress)
    if as_json:
        emit_json(found.to_dict())
    else:
        emit(_text(found))
    if limit is not None and found.peak > limit:
        raise LimitExceeded(_why_not(found, limit))


def _mode(asked: Mapping[Mode, bool]) -> Mode:
    """The mode that was asked for; the free order where none was."""
    modes = [mode for mode, wanted in asked.items() if wanted]
    if len(modes) > 1:
        raise UsageError("--fixed-order, --order-only and --moccasin exclude each other")
    return modes[0] if modes else "free"


def _annealer() -> AnnealerFactory | None:
    """The native annealer, or None and a warning where it cannot be built."""
    from tpopt.backend.native.annealer import NativeAnnealer, prepare

    try:
        prepare()
    except KernelBuildFailed as error:
        say(f"searching without annealing: {error}", label="warning", style="bold yellow")
        return None
    return NativeAnnealer


def _text(found: Schedule) -> str:
    from tpopt.report.render import table

    repeated = len(found.sequence) - len(found.graph)
    rows = (
        ("status", found.status),
        ("peak", f"{found.peak:,} (budget {found.budget:,})" if found.budget is not None else f"{found.peak:,}"),
        ("extra time", f"{found.extra_time_percent:.3f} % (at least {found.lower_bound_percent:.3f} %)"),
        ("steps", f"{len(found.sequence)}, {repeated} of them repeated"),
        ("seconds", f"{found.seconds:.1f}"),
        ("sequence", " ".join(found.graph.ids[v] for v in found.sequence)),
    )
    return table(("schedule", ""), rows)


def _why_not(found: Schedule, budget: int) -> str:
    if found.graph.structural_bound > budget:
        bound = found.graph.structural_bound
        return f"no schedule keeps {budget:,}: one node and its operands alone take {bound:,}"
    if found.status == "infeasible":
        return f"no schedule keeps {budget:,}; this is proved for the mode that was asked for"
    return f"no schedule within {budget:,} was found; the lowest peak is {found.peak:,}. Allow more --time"
