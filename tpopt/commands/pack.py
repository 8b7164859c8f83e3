"""``tpopt pack``: offsets of blocks of memory within a capacity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json, say
from tpopt.errors import KernelBuildFailed, LimitExceeded, UsageError

if TYPE_CHECKING:
    from tpopt.passes.rematerialize.packing import Fit
    from tpopt.protocols import OffsetSearch

File = Annotated[Path, typer.Argument(metavar="FILE.csv", help="Columns id, lower, upper, size.", show_default=False)]
Capacity = Annotated[int, typer.Option(help="Bytes of the arena.", show_default=False)]
Seconds = Annotated[float, typer.Option("--time", help="Seconds to search.")]
Seed = Annotated[int, typer.Option(help="Seed of the search.")]
Threads = Annotated[int, typer.Option(help="Threads to search with.")]


def pack(
    file: File,
    *,
    capacity: Capacity,
    time: Seconds = 60.0,
    seed: Seed = 0,
    threads: Threads = 2,
    as_json: AsJson = False,
) -> None:
    """Find addresses for blocks of memory.

    A block is alive in [lower, upper). Ends with 7 where the blocks do not fit, or no way to place them was found; the
    offsets are then those of the smallest arena that was found.
    """
    if capacity < 1 or not time > 0 or threads < 1:
        raise UsageError(f"--capacity {capacity}, --time {time} and --threads {threads} must be positive")
    from tpopt.passes.rematerialize.packing import fit, read_blocks

    found = fit(read_blocks(file), capacity, time, search=_search(), threads=threads, seed=seed)
    packing = found.packing
    if as_json:
        emit_json({"offsets": packing.offsets, "height": packing.size, "status": found.status})
    else:
        emit(_text(found))
    if found.status == "infeasible":
        raise LimitExceeded(f"no placement fits into {capacity:,}; {packing.lower_bound:,} are alive at one time")
    if found.status == "unknown":
        raise LimitExceeded(f"no placement within {capacity:,} was found; the best takes {packing.size:,}")


def _search() -> OffsetSearch | None:
    """The native search, or None and a warning where it cannot be built."""
    from tpopt.backend.native.packer import prepare, search_offsets

    try:
        prepare()
    except KernelBuildFailed as error:
        say(f"searching by the constraint program alone: {error}", label="warning", style="bold yellow")
        return None
    return search_offsets


def _text(found: Fit) -> str:
    from tpopt.report.render import table

    rows = [(name, f"{offset:,}") for name, offset in found.packing.offsets.items()]
    return f"{found.status}, height {found.packing.size:,}\n{table(('id', 'offset'), rows)}"
