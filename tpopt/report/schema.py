"""The schema of a report, made from the dataclasses: as JSON Schema, and as the tables of docs/report.md."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tpopt.report.codec import optional
from tpopt.report.report import SCHEMA_VERSION, Report

_SCALARS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of ``Report.to_dict()``."""
    rows = {kind.__name__: _object(kind) for kind in records() if kind is not Report}
    report = _object(Report)
    report["properties"]["schema_version"]["const"] = SCHEMA_VERSION
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A report of tpopt",
        "description": "What one compilation did and why. Made from tpopt.report.facts.",
        **report,
        "$defs": rows,
    }


def markdown() -> str:
    """Returns a table of keys, types and meanings for the report and for each of its rows."""
    return "\n".join(_table(kind) for kind in records())


def records() -> tuple[type, ...]:
    """Returns Report and every record below it, each once, in the order in which they are met."""
    found: list[type] = [Report]
    for kind in found:  # grows while it is walked
        found += [k for k in dict.fromkeys(_below(kind)) if k not in found]
    return tuple(found)


def _below(kind: type) -> Iterator[type]:
    for hint in get_type_hints(kind).values():
        inner, _ = optional(hint)
        inner = get_args(inner)[0] if get_origin(inner) is tuple else inner
        if dataclasses.is_dataclass(inner):
            assert isinstance(inner, type)
            yield inner


def _object(kind: type) -> dict[str, Any]:
    meanings, hints = _meanings(kind), get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    return {
        "type": "object",
        "properties": {name: {**_type(hints[name]), "description": meanings[name]} for name in names},
        "required": names,
        "additionalProperties": False,
    }


def _type(kind: Any) -> dict[str, Any]:
    kind, nullable = optional(kind)
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _type(get_args(kind)[0])}
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if dataclasses.is_dataclass(kind):
        return {"$ref": f"#/$defs/{kind.__name__}"}  # type: ignore[union-attr]  # every record is a class
    return {"type": [_SCALARS[kind], "null"] if nullable else _SCALARS[kind]}


def _meanings(kind: type) -> dict[str, str]:
    attributes = inspect.getdoc(kind).partition("Attributes:\n")[2]  # type: ignore[union-attr]  # all have docstrings
    return {name: " ".join(text.split()).replace("``", "`") for name, text in _ATTRIBUTE.findall(attributes)}


def _table(kind: type) -> str:
    hints = get_type_hints(kind)
    lines = [f"### {kind.__name__}", "", *_paragraph(kind), "", "| key | type | meaning |", "|---|---|---|"]
    for name, meaning in _meanings(kind).items():
        lines.append(f"| `{name}` | {_spelled(hints[name])} | {meaning} |")
    return "\n".join(lines) + "\n"


def _paragraph(kind: type) -> list[str]:
    text = inspect.getdoc(kind).partition("\n\n")[0]  # type: ignore[union-attr]  # all have docstrings
    return [" ".join(text.split()).replace("``", "`")]


def _spelled(kind: Any) -> str:
    kind, nullable = optional(kind)
    if get_origin(kind) is tuple:
        return f"list of {_spelled(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{choice}"`' for choice in get_args(kind))
    if dataclasses.is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]  # every record is a class
        return f"[{name}](#{name.lower()})"
    return f"{_SCALARS[kind]} or null" if nullable else _SCALARS[kind]
