"""``tpopt replay``: checks the certificate of a derivation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json
from tpopt.errors import UsageError, VerificationFailed

Files = Annotated[list[Path], typer.Argument(metavar="CERTIFICATE...", help="Files of tpopt derive --save.")]


def replay(files: Files, *, as_json: AsJson = False) -> None:
    """Check derivations by evaluation, without their laws.

    Every program of a chain is evaluated over a finite field, all elements, and compared with the first. Ends with 4
    where one differs. Runs no code of the file.
    """
    from tpopt.rewrite.certificate import Certificate
    from tpopt.verify.replay import replay as check

    results = []
    for file in files:
        if not file.is_file():
            raise UsageError(f"there is no file {file}")
        results.append(check(Certificate.loads(file.read_text(encoding="utf-8"))))
    if as_json:
        emit_json({"certificates": [r.to_dict() for r in results]})
    else:
        emit("\n".join(map(str, results)))
    refuted = [str(f) for f, r in zip(files, results, strict=True) if not r.passed]
    if refuted:
        raise VerificationFailed(f"refuted: {', '.join(refuted)}")
