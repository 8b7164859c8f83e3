"""``tpopt report``: a saved report as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpopt.commands.output import emit, say
from tpopt.errors import UsageError

if TYPE_CHECKING:
    from tpopt.report import Report
    from tpopt.report.html import Graphs

Source = Annotated[
    Path, typer.Argument(metavar="FILE", help="A saved model (.tpg), or a report that --out wrote.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write the page here.", show_default="FILE.html")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead.")]


def report(file: Source, *, out: Out = None, as_json: AsJson = False) -> None:
    """Draw a report as one HTML page.

    It has no script and loads nothing from elsewhere. A saved model shows the operators before and after, too. Runs no
    code.
    """
    from tpopt.commands.output import emit_json
    from tpopt.report.html import page
    from tpopt.store.whole import write_whole

    found, graphs = _read(file)
    if as_json:
        emit_json(found.to_dict())
        return
    target = out or file.with_suffix(".html")
    if not target.parent.is_dir():
        raise UsageError(f"--out {target}: there is no folder {target.parent}")
    write_whole(target, page(found, graphs).encode())
    say(f"wrote {target}")
    emit(str(target))


def _read(file: Path) -> tuple[Report, Graphs]:
    from tpopt.report import Report, read_report
    from tpopt.report.html import Graphs

    if file.suffix != ".tpg":
        return read_report(file), Graphs()
    from tpopt._saved.records import Contents, decode
    from tpopt.store.archive import open_archive

    contents = Contents(open_archive(file))
    found = decode(Report, contents.read("report.json"), f"{file}: report.json")
    after = contents.text("plan.txt") if "plan.txt" in contents else ""
    return found, Graphs(contents.text("original.txt"), after)
