"""``tpopt remat`` and ``tpopt pack``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Run

CHAIN = {
    "nodes": [{"id": name, "duration": 1, "size": 1} for name in "abcdefgh"],
    "edges": [*"ab bc cd de ef fg gh".split(), *"ah bg cf".split()],
}
CHAIN["edges"] = [list(edge) for edge in CHAIN["edges"]]


@pytest.fixture
def graph(tmp_path: Path) -> str:
    file = tmp_path / "chain.json"
    file.write_text(json.dumps(CHAIN))
    return str(file)


@pytest.fixture
def blocks(tmp_path: Path) -> str:
    file = tmp_path / "blocks.csv"
    file.write_text("id,lower,upper,size\na,0,2,10\nb,1,3,20\nc,2,4,10\n")
    return str(file)


def test_a_schedule_is_printed_as_json(graph: str, run: Run):
    ended = run("remat", graph, "--budget", "4", "--moves", "20000", "--json")
    found = json.loads(ended.out)
    assert list(found) == [
        "sequence", "peak", "budget", "extra_time_percent", "lower_bound_percent", "status", "seconds",
    ]  # fmt: skip
    assert (ended.code, found["peak"], set(found["sequence"]) == set("abcdefgh")) == (0, 4, True)
    assert found["extra_time_percent"] == 100 * (len(found["sequence"]) - 8) / 8


def test_a_schedule_is_printed_for_people(graph: str, run: Run):
    ended = run("remat", graph, "--budget", "4", "--moves", "20000")
    assert "4 (budget 4)" in ended.out


def test_an_impossible_budget_ends_with_7_and_the_reason(graph: str, run: Run):
    ended = run("remat", graph, "--budget", "2", "--json")
    assert (ended.code, json.loads(ended.out)["status"]) == (7, "infeasible")
    assert "one node and its operands alone take 3" in ended.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--budget", "0"), "expected a part of the input order's peak"),
        ((), "--budget is missing"),
        (("--budget", "4", "--fixed-order", "--order-only"), "exclude each other"),
        (("--budget", "4", "--time", "-1"), "must be positive"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], reason: str, graph: str, run: Run):
    ended = run("remat", graph, *arguments)
    assert (ended.code, reason in ended.err) == (2, True)


def test_offsets_are_printed_as_json(blocks: str, run: Run):
    found = json.loads(run("pack", blocks, "--capacity", "30", "--json").out)
    assert (found["height"], found["status"], set(found["offsets"])) == (30, "feasible", {"a", "b", "c"})


def test_a_capacity_below_the_load_ends_with_7(blocks: str, run: Run):
    ended = run("pack", blocks, "--capacity", "29")
    assert (ended.code, "30 are alive at one time" in ended.err) == (7, True)


def test_a_capacity_is_positive(blocks: str, run: Run):
    assert run("pack", blocks, "--capacity", "0").code == 2
