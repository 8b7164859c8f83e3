"""A file is a room and a function fits a screen. Complexity is capped by ruff (C901)."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

from support.tree import ROOT, files_of_the_project

MEDIAN_LINES, MOST_LINES, FUNCTION_LINES = 150, 600, 60
SOURCES = [
    file for file in files_of_the_project() if file.suffix == ".py" and "tests" not in file.relative_to(ROOT).parts
]


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_the_median_file_is_short():
    assert statistics.median(lines(file) for file in SOURCES) <= MEDIAN_LINES


def test_no_file_is_long():
    files = [file for file in files_of_the_project() if file.suffix == ".py"]
    assert {str(file.relative_to(ROOT)): lines(file) for file in files if lines(file) > MOST_LINES} == {}


def test_a_function_fits_a_screen():
    long = {}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    long[f"{file.relative_to(ROOT)}:{node.name}"] = length
    assert long == {}


def test_annotations_are_postponed_everywhere():
    first = "from __future__ import annotations"
    late = [
        file for file in SOURCES if (text := file.read_text(encoding="utf-8")) and _has_code(text) and first not in text
    ]
    assert late == []


def _has_code(text: str) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(text).body)
