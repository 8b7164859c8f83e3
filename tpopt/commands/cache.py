"""``tpopt cache``: what tpopt keeps for this user between processes, and how to be rid of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json
from tpopt.errors import UsageError

cache = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

RECORDS: Final = "records"
Records = Annotated[bool, typer.Option("--records", help="Remove the measurements too; they take long to make again.")]


@cache.callback()
def _cache() -> None:
    """Show or clear the cache of this user.

    Built kernels, the launcher, saved models that were checked, and measurements. TPOPT_CACHE_DIR names another folder.
    """


@cache.command()
def path() -> None:
    """Print the folder of the cache."""
    from tpopt.store.folder import cache_root

    emit(str(cache_root()))


@cache.command()
def status(as_json: AsJson = False) -> None:
    """List what is in the cache."""
    from tpopt.store.folder import cache_root

    rows = contents()
    if as_json:
        emit_json({"path": str(cache_root()), "rooms": rows})
        return
    from tpopt.report.render import table

    cells = [(r["name"], str(r["files"]), f"{r['bytes']:,}", r["what"]) for r in rows]
    emit(f"{cache_root()}\n{table(('room', 'files', 'bytes', 'what'), cells)}".rstrip("\n"))


@cache.command()
def clear(records: Records = False, as_json: AsJson = False) -> None:
    """Remove everything but the measurements.

    Processes that use the cache go on; what they need is made again.
    """
    import shutil

    from tpopt.store.folder import ROOMS, cache_root

    root = cache_root()
    before = sum(r["bytes"] for r in contents() if records or r["name"] != RECORDS)
    try:
        for room in ROOMS:
            if (root / room).is_dir() and not (root / room).is_symlink():
                shutil.rmtree(root / room)
        for file in _record_files(root) if records else ():
            file.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot clear {root}: {error.strerror}: {error.filename}") from error
    if as_json:
        emit_json({"path": str(root), "bytes": before})
    else:
        emit(f"removed {before:,} bytes from {root}")


def contents() -> list[dict[str, Any]]:
    """Returns name, number of files, bytes and meaning of each room of the cache."""
    from tpopt.store.folder import ROOMS, cache_root

    root = cache_root()
    rows = [{"name": room, **_size((root / room).glob("*")), "what": what} for room, what in ROOMS.items()]
    return [*rows, {"name": RECORDS, **_size(_record_files(root)), "what": "measurements of kernels on this machine"}]


def _record_files(root: Path) -> list[Path]:
    return sorted((*root.glob("records-v*.json*"), *root.glob("trials-v*.db*")))


def _size(files: Any) -> dict[str, int]:
    count = total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:  # another process removed it meanwhile
            continue
        count += 1
    return {"files": count, "bytes": total}
