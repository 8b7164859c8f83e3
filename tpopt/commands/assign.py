"""``tpopt assign``: the precision of each layer of a problem file, within one bound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json
from tpopt.errors import UsageError

File = Annotated[Path, typer.Argument(metavar="FILE.json", help="Traces, errors and costs.", show_default=False)]
Bound = Annotated[str, typer.Option(help="What is bounded: size, bops or latency.")]
Fraction = Annotated[float, typer.Option(help="Of the way from all layers in 4 bits (0) to all in 8 (1).")]
Method = Annotated[str, typer.Option(help="program (the best of all) or monotone (in the order of the traces).")]
Seconds = Annotated[float, typer.Option("--time", help="Seconds to search.")]


def assign(
    file: File,
    *,
    bound: Bound = "size",
    fraction: Fraction = 0.5,
    method: Method = "program",
    time: Seconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """Assign each layer 4 or 8 bits within a bound.

    The predicted loss moves least.

    docs/precision.md describes the file. Ends with 7 where no assignment is within the bound.
    """
    from tpopt.passes.precision.assignment import assign as solve
    from tpopt.passes.precision.assignment import monotone
    from tpopt.passes.precision.hawq_file import BITS, read_problem, read_traces

    if method not in ("program", "monotone"):
        raise UsageError(f"--method {method}: expected program or monotone")
    if not time > 0:
        raise UsageError(f"--time {time}: expected seconds above 0")
    problem = read_problem(file, bound, fraction)
    found = solve(problem, time) if method == "program" else monotone(problem, read_traces(file))
    (resource,) = problem.resources
    bits = [BITS[c] for c in found.choices]
    used = problem.cost(resource, found.choices)
    if as_json:
        values = {"bits": bits, "objective": found.loss, "status": found.status}
        emit_json({**values, "cost": used, "limit": resource.limit})
    else:
        text = "".join(map(str, bits))
        emit(f"{text}\nobjective {found.loss:.6g} ({found.status}), {bound} {used:.6g} of {resource.limit:.6g}")
