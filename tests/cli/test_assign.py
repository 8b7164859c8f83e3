"""``tpopt assign``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Run

PROBLEM = {
    "trace": [3.0, 1.0, 0.1],
    "dw2_8bit": [0.01, 0.01, 0.01],
    "dw2_4bit": [1.0, 1.0, 1.0],
    "parameters": [100, 100, 100],
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(PROBLEM))
    return str(path)


@pytest.mark.parametrize("method", ["program", "monotone"])
def test_the_most_sensitive_layers_get_more_bits(file: str, method: str, run: Run):
    ended = run("assign", file, "--bound", "size", "--fraction", "0.7", "--method", method, "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["bits"], found["status"]) == (0, [8, 8, 4], "optimal")
    assert found["objective"] == pytest.approx(0.03 + 0.01 + 0.1)
    assert (found["cost"], round(found["limit"], 9)) == (250.0, 255.0)


def test_it_is_printed_for_people(file: str, run: Run):
    ended = run("assign", file, "--fraction", "0.4")
    assert ended.out.startswith("844\nobjective 1.13 (optimal), size 200 of 210")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (("--bound", "watts"), "size, bops, latency"),
        (("--bound", "bops"), "bops is missing"),
        (("--fraction", "2"), "fraction"),
        (("--method", "guess"), "--method guess"),
        (("--time", "0"), "--time"),
    ],
)
def test_a_wrong_question_is_a_usage_error(file: str, extra: tuple[str, ...], named: str, run: Run):
    ended = run("assign", file, *extra)
    assert ended.code == 2
    assert named in ended.err
