"""``tpopt passes``: the passes and pipelines that exist."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from tpopt.commands.compiling import AsJson
from tpopt.commands.output import emit, emit_json
from tpopt.errors import TpoptError

if TYPE_CHECKING:
    from tpopt.rewrite.registry import Registry


def passes(as_json: AsJson = False) -> None:
    """List passes, options and pipelines.

    A pass is spelled name{option=value} in --pipeline; a pipeline is passes separated by commas.
    """
    from tpopt.rewrite.registry import registry

    found = registry()
    rows = [describe_pass(found, name) for name in found.passes]
    pipelines = [describe_pipeline(found, name) for name in found.pipelines]
    if as_json:
        emit_json({"passes": rows, "pipelines": pipelines})
    else:
        emit(_text(rows, pipelines))


def describe_pass(found: Registry, name: str) -> dict[str, Any]:
    """Returns name, summary, numerics, options and their defaults (null: must be given); why, when it does not load."""
    row: dict[str, Any] = {"name": name, "summary": "", "numerics": None, "options": [], "problem": None}
    try:
        kind = found.load_pass(name)
    except TpoptError as error:  # a broken plugin hides no other pass
        return {**row, "problem": str(error)}
    options = [{"name": f.name, "default": _default(f)} for f in dataclasses.fields(kind) if f.init]
    summary = (inspect.getdoc(kind) or "").partition("\n")[0]
    return {**row, "summary": summary, "numerics": str(kind.numerics), "options": options}


def describe_pipeline(found: Registry, name: str) -> dict[str, Any]:
    """Returns the name of a pipeline and its passes as text; why, when it does not load."""
    try:
        return {"name": name, "passes": ",".join(map(str, found.load_pipeline(name))), "problem": None}
    except TpoptError as error:
        return {"name": name, "passes": None, "problem": str(error)}


def _default(field: dataclasses.Field[Any]) -> str | None:
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return None if field.default is dataclasses.MISSING else repr(field.default)


def _text(rows: list[dict[str, Any]], pipelines: list[dict[str, Any]]) -> str:
    from tpopt.report.render import table

    listed = [
        (
            row["name"],
            row["numerics"] or "-",
            ", ".join(f"{o['name']}={o['default'] or '...'}" for o in row["options"]) or "-",
            row["problem"] or row["summary"],
        )
        for row in rows
    ]
    composed = [(row["name"], row["problem"] or row["passes"] or "(nothing)") for row in pipelines]
    passes_table = table(("pass", "numerics", "options", "what it does"), listed)
    return f"{passes_table}\n{table(('pipeline', 'passes'), composed)}".rstrip("\n")
