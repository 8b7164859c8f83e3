"""What a command ends with: docs/exit_codes.md."""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from typer.core import TyperGroup

from tpopt.commands.output import say
from tpopt.errors import TpoptError

INTERNAL: Final = 1
INTERRUPTED: Final = 130
"""What a shell reports for a program that Ctrl-C ended: 128 and the number of the signal."""


@contextmanager
def exit_codes(*, show_traceback: bool) -> Iterator[None]:
    """Turns what a command raises into a message on stderr and an exit code."""
    try:
        yield
    except TpoptError as error:
        _trace(error, show_traceback)
        say(str(error), label="error", style="bold red")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        say("interrupted, and there is nothing to keep yet", label="stopped", style="bold yellow")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:  # a defect of ours becomes a message too
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            raise typer.Exit(0) from None
        if isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "show"):  # typer prints its own usage errors
            raise
        _trace(error, show_traceback)
        hint = "" if show_traceback else "; `tpopt --traceback ...` or TPOPT_TRACEBACK=1 shows where"
        say(f"{type(error).__name__}: {error}{hint}", label="internal error", style="bold red")
        raise typer.Exit(INTERNAL) from None


class GuardedGroup(TyperGroup):
    """A group whose commands end as docs/exit_codes.md says."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with exit_codes(show_traceback=False):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with exit_codes(show_traceback=bool(ctx.params.get("traceback"))):
            return super().invoke(ctx)


def _trace(error: Exception, wanted: bool) -> None:
    if wanted:
        traceback.print_exception(error, file=sys.stderr)


def _stdout_is_closed() -> bool:
    """Tells a reader of stdout that went away, as in ``| head``, from a pipe of our own that broke."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # there is no stdout, or it is no file
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # or Python complains when it flushes at the end
    return closed
