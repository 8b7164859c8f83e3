"""The ``tpopt`` command: parse, call, print, exit code. docs/exit_codes.md lists the codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
import typer.main

import tpopt
from tpopt.commands.assign import assign
from tpopt.commands.bisect import bisect
from tpopt.commands.cache import cache
from tpopt.commands.cost import cost
from tpopt.commands.coverage import coverage
from tpopt.commands.cubins import cubins
from tpopt.commands.derive import derive
from tpopt.commands.doctor import doctor
from tpopt.commands.explain import explain
from tpopt.commands.inspect import inspect
from tpopt.commands.optimize import optimize
from tpopt.commands.outcome import GuardedGroup
from tpopt.commands.output import emit
from tpopt.commands.pack import pack
from tpopt.commands.passes import passes
from tpopt.commands.profile import profile
from tpopt.commands.remat import remat
from tpopt.commands.replay import replay
from tpopt.commands.report import report
from tpopt.commands.repro import repro
from tpopt.commands.run import run
from tpopt.commands.tune import tune
from tpopt.commands.verify import verify

_FORWARD: Final[dict[str, Any]] = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}
"""Settings of a command that parses nothing itself."""

app = typer.Typer(
    cls=GuardedGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"tpopt {tpopt.__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error arose.", envvar="TPOPT_TRACEBACK")]


@app.callback()
def _tpopt(*, version: Version = False, traceback: Traceback = False) -> None:
    """Make a PyTorch model faster, check that it still computes the same, and say why.

    Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 internal error, 2 wrong usage, 3 unsupported
    input, 4 verification failed, 5 regression, 6 unsafe or corrupt file, 7 limit reached, 130 interrupted.
    """


app.command()(optimize)
app.command()(explain)
app.command()(profile)
app.command()(run)
app.command()(inspect)
app.command()(verify)
app.command()(bisect)
app.command()(repro)
app.command()(report)


@app.command("bench", context_settings=_FORWARD)
def _bench(context: typer.Context) -> None:
    """Time models against other compilers."""
    from tpopt.bench.command import bench  # on first use: it brings the peers' machinery

    own = typer.Typer(add_completion=False, rich_markup_mode=None)
    own.command("bench")(bench)
    command = typer.main.get_command(own)
    with command.make_context("bench", list(context.args), parent=context.parent) as forwarded:
        command.invoke(forwarded)


app.command()(derive)
app.command()(replay)
app.command()(remat)
app.command()(pack)
app.command()(assign)
app.command()(coverage)
app.command()(passes)
app.command()(doctor)
app.command()(tune)
app.command()(cubins)
app.add_typer(cost, name="cost")
app.add_typer(cache, name="cache")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits the process with its code."""
    app(args=None if arguments is None else list(arguments), prog_name="tpopt")
