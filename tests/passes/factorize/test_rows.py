"""What core shapes and allocations are held to: the time and the error of the paper's searches, and of the usual rules.

The table is measured once and kept in a file, so that a run which was stopped goes on; ``-s`` prints it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from functools import cache
from typing import Any

import numpy as np
import pytest
from support.core_shapes import TENSORS, measured
from support.layers import RULES, drawn_layers, named_layers, share_of
from support.resume import SOURCES, digest
from support.tree import ROOT

from tpopt.passes.factorize.allocation import allocate, total_error
from tpopt.passes.factorize.core_shapes import parameters
from tpopt.passes.factorize.packing import packing

pytestmark = [pytest.mark.acceptance, pytest.mark.serial]


@cache
def table(name: str, init: str = "svd") -> list[dict[str, Any]]:
    files = [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))]
    file = ROOT / ".acceptance" / f"core-shapes-{digest([*files, ROOT / 'tests/support/core_shapes.py'])}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if f"{name}, {init}" not in known:
        known[f"{name}, {init}"] = measured(name, init)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(known, indent=1))
    return known[f"{name}, {init}"]


def show(*words: object, end: str = "\n") -> None:
    sys.stdout.write(" ".join(map(str, words)) + end)


def mean(ratios: list[float]) -> float:
    return float(np.mean(ratios))


def geomean(ratios: list[float]) -> float:
    return math.exp(mean([math.log(r) for r in ratios]))


@pytest.mark.parametrize("init", ["svd", "random"])
@pytest.mark.parametrize("name", TENSORS)
def test_the_error_is_at_most_that_of_the_search_which_fits_a_model_at_each_step(name: str, init: str):
    rows = table(name, init)
    ratios = [row["rre"] / row["RRE-greedy"] for row in rows]
    ways = [way for way in ("refitted", "packing", "program", "greedy", "per size") if way in rows[0]]
    show(f"\n{name}, {init}: RRE / RRE-greedy, mean and worst: ours {mean(ratios):.5f} {max(ratios):.5f}", end="")
    for way in ways:
        others = [row[way] / row["RRE-greedy"] for row in rows]
        show(f"; {way} {mean(others):.5f} {max(others):.5f}", end="")
    show()
    assert mean(ratios) <= 1.0
    assert max(ratios) <= 1.02


def test_the_search_is_a_thousand_times_as_fast_as_the_one_that_fits():
    for init in ("svd", "random"):
        rows = [row for name in TENSORS for row in table(name, init)]
        for what, key in (("search alone", "search s"), ("with the decomposition", "s")):
            ratios = [row["RRE-greedy s"] / row[key] for row in rows]
            show(f"\n{init}, {what}: geomean {geomean(ratios):,.0f} worst {min(ratios):,.0f} best {max(ratios):,.0f}")
    rows = [row for name in TENSORS for row in table(name)]
    assert geomean([row["RRE-greedy s"] / row["search s"] for row in rows]) >= 1000
    assert geomean([row["RRE-greedy s"] / row["s"] for row in rows]) >= 1000
    assert min(row["RRE-greedy s"] / row["s"] for row in rows) >= 100


@pytest.mark.parametrize(
    "shape", [(256, 256, 14, 20), (1024, 1344, 33), (1084, 2033, 96), (7200, 128, 128, 3)], ids=str
)
def test_the_search_takes_50_ms_at_the_papers_shapes_and_budgets(shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    squares = [np.sort(rng.exponential(size=n) * np.arange(1, n + 1) ** -1.5)[::-1] for n in shape]
    slowest = 0.0
    for budget in range(8_000, 101_000, 2_000):
        took = []
        for _ in range(3):
            start = time.perf_counter()
            found = packing(squares, budget)
            took.append(time.perf_counter() - start)
        assert parameters(shape, found) <= budget
        slowest = max(slowest, min(took))
    show(f"\n{shape}: {slowest * 1e3:.1f} ms at most")
    assert slowest <= 0.05


@pytest.mark.parametrize("kind", ["trained", "planted"])
def test_the_allocation_is_never_worse_than_a_rule(kind: str):
    layers, ranks = named_layers(kind)
    show(f"\n{kind}: share of the largest size, error, gap, and errors of the rules as multiples")
    for share in np.linspace(0.05, 1.0, 20):
        budget = share_of(layers, float(share))
        found = allocate(layers, budget)
        ratios = {}
        for name, rule in RULES.items():
            ratios[name] = total_error(layers, rule(layers, budget, ranks)) / max(found.error, 1e-300)
        show(f"{share:.2f} {found.error:.6g} {found.gap:.1e}", *(f"{name} {r:.5g}" for name, r in ratios.items()))
        assert found.size <= budget
        assert found.gap < 1e-3
        for name, rule in RULES.items():
            assert found.error <= total_error(layers, rule(layers, budget, ranks)) * (1 + 1e-9), name


def test_a_hundred_layers_of_fifty_candidates_take_a_second():
    slowest, gap = 0.0, 0.0
    for seed in range(10):
        layers = drawn_layers(seed, 100, 50)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            start = time.perf_counter()
            found = allocate(layers, share_of(layers, share))
            slowest, gap = max(slowest, time.perf_counter() - start), max(gap, found.gap)
    show(f"\n{slowest * 1e3:.0f} ms at most, gap {gap:.1e} at most")
    assert slowest <= 1.0
    assert gap < 1e-3
