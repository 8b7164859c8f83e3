"""``tpopt coverage``: which core ATen operators have algebra."""

from __future__ import annotations

from typing import Annotated

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json, progress_bar, stdout_is_stderr
from tpopt.errors import PerformanceRegression, VerificationFailed

NoCheck = Annotated[bool, typer.Option("--no-check", help="Only list; do not compare with torch on sample inputs.")]


def coverage(as_json: AsJson = False, no_check: NoCheck = False) -> None:
    """List which ATen operators have algebra.

    Each core overload is algebra or opaque; algebra is compared with torch on sample inputs (exit code 4 where it
    differs), and its work with torch's at two sizes (5 where it does more than twice as much, or grows faster).
    """
    with stdout_is_stderr(), progress_bar() as progress:
        from tpopt.frontend.coverage import coverage as survey

        found = survey(check=not no_check) if progress is None else survey(check=not no_check, progress=progress)
    document = found.to_dict()
    if as_json:
        emit_json(document)
    else:
        emit(str(found))
    if wrong := document.get("wrong"):
        raise VerificationFailed(f"the algebra of {', '.join(wrong)} does not agree with torch")
    if excessive := document.get("excessive"):
        raise PerformanceRegression(f"the algebra of {', '.join(excessive)} does too much work")
