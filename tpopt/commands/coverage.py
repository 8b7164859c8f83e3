"""``tpopt coverage``: which core ATen operators have algebra."""

from __future__ import annotations

from typing import Annotated

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json, stdout_is_stderr

NoCheck = Annotated[bool, typer.Option("--no-check", help="Only list; do not compare with torch on sample inputs.")]


def coverage(as_json: AsJson = False, no_check: NoCheck = False) -> None:
    """List which ATen operators have algebra.

    Each core overload is algebra or opaque; algebra is compared with torch on sample inputs.
    """
    with stdout_is_stderr():
        from tpopt.frontend.coverage import coverage as survey

        found = survey(check=not no_check)
    if as_json:
        emit_json(found.to_dict())
    else:
        emit(str(found))
