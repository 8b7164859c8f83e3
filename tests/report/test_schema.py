"""docs/report.md and docs/report.schema.json say what the dataclasses say."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.reports import KEPT, OPTIMIZED, REFUSED
from support.tree import ROOT

from tpopt.report import Report
from tpopt.report.schema import json_schema, markdown, records

SCHEMA = ROOT / "docs" / "report.schema.json"
PAGE = ROOT / "docs" / "report.md"
BEGIN, END = "<!-- made from the dataclasses: begin -->\n", "<!-- made from the dataclasses: end -->\n"


def put(path: Path, text: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")


def test_the_json_schema_file_is_that_of_the_dataclasses(request: pytest.FixtureRequest):
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    put(SCHEMA, text, request)
    assert SCHEMA.read_text(encoding="utf-8") == text


def test_the_page_has_the_tables_of_the_dataclasses(request: pytest.FixtureRequest):
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n{markdown()}\n{END}{after}"
    put(PAGE, text, request)
    assert PAGE.read_text(encoding="utf-8") == text


def test_every_field_has_a_meaning_and_nothing_else_has():
    for kind in records():
        documented = re.findall(r"^        (\w+): ", (kind.__doc__ or "").partition("Attributes:")[2], re.MULTILINE)
        assert sorted(documented) == sorted(f.name for f in dataclasses.fields(kind)), kind.__name__


@pytest.mark.parametrize("report", [OPTIMIZED, KEPT, REFUSED], ids=["optimized", "kept", "refused"])
def test_what_is_written_is_what_the_schema_allows(report: Report):
    assert list(violations(report.to_dict(), json_schema())) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compile_seconds": "3"}, "compile_seconds: '3' is no number"),
        ({"extra": 1}, ": keys"),
        ({"schema_version": 9}, "schema_version: 9 is not 3"),
    ],
)
def test_the_schema_forbids_anything_else(change: dict[str, Any], message: str):
    assert list(violations({**KEPT.to_dict(), **change}, json_schema())) == [message]


KINDS: dict[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None), "array": list, "object": dict,
}  # fmt: skip


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "") -> Iterator[str]:
    """The part of JSON Schema that ours uses."""
    root = root or schema
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        if value not in schema["enum"]:
            yield f"{at}: {value!r} is none of {schema['enum']}"
        return
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(isinstance(value, KINDS[kind]) for kind in types):
        yield f"{at}: {value!r} is no {' or '.join(types)}"
    if schema.get("const", value) != value:
        yield f"{at}: {value!r} is not {schema['const']}"
    if isinstance(value, list):
        for item in value:
            yield from violations(item, schema["items"], root, f"{at}[]")
    elif isinstance(value, dict):
        if list(value) != schema["required"] or schema["additionalProperties"]:
            yield f"{at}: keys"
        for name, part in schema["properties"].items():
            yield from violations(value[name], part, root, f"{at}.{name}".lstrip("."))


def test_the_report_imports_nothing_heavy():
    code = (
        "import tpopt.report, sys, json;"
        "print(json.dumps(sorted(m for m in sys.modules if m.partition('.')[0] in ('torch', 'tvm', 'numpy', 'rich')"
        " or m.startswith('tpopt.') and not m.startswith('tpopt.report'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(loaded) == ["tpopt.budget", "tpopt.errors", "tpopt.options"]
