"""Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from tpopt.options import Progress


def emit(text: str) -> None:
    """Writes data to stdout, at once, so that a reader that went away is noticed here."""
    if sys.stdout is not None:  # it is None in a process that was started with stdout closed
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def emit_json(data: Any) -> None:
    """Writes one JSON document to stdout."""
    emit(json.dumps(data, indent=2, allow_nan=False))


def say(message: str, *, label: str = "", style: str = "") -> None:
    """Writes a message to stderr; the label before it is coloured on a terminal, unless NO_COLOR is set."""
    from rich.text import Text

    stderr_console().print(Text.assemble((f"{label}: " if label else "", style), message), soft_wrap=True)


def stderr_console() -> Console:
    """Returns rich's view of stderr, which knows whether it is a terminal and whether it may use colours."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def stdout_is_stderr() -> Iterator[None]:
    """Sends to stderr what a user's code, its libraries and its child processes print: stdout is for data alone."""
    kept = None
    if sys.stdout is not None:  # else 1 may be any file that was opened since
        with suppress(OSError):  # a reader that went away is noticed when there is data
            sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Yields what ``Options.progress`` takes: a bar on stderr when that is a terminal, else None."""
    console = stderr_console()
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def tell(stage: str, part: float) -> None:
            bar.update(task, description=stage, completed=part)

        yield tell
