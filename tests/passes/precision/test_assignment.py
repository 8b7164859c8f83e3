"""Assignments of precisions: against brute force, against published programs, and what cannot be done."""

from __future__ import annotations

import json
import random
import time
from itertools import product
from pathlib import Path

import pytest

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.precision.assignment import Assignment, Problem, Resource, assign, monotone, pareto
from tpopt.passes.precision.hawq_file import BOUNDS, read_problem, read_traces

RESNET18 = {  # inputs of HAWQ-V3's published integer programs (ILP.ipynb); MIT
    "trace": [
        0.06857826, 0.03162379, 0.03298575, 0.01205663, 0.02222431, 0.00596336, 0.06931772, 0.00807129, 0.00372905,
        0.00530698, 0.00209011, 0.00737569, 0.00210454, 0.00151197, 0.00158041, 0.00078146, 0.00451841, 0.00098745,
        0.00072944,
    ],
}  # fmt: skip


def drawn(rng: random.Random) -> Problem:
    """A small problem with groups, pairs, forbidden pairs and two budgets."""
    layers, choices = rng.randint(2, 7), rng.randint(2, 3)
    losses = tuple(tuple(sorted((rng.expovariate(1.0) for _ in range(choices)), reverse=True)) for _ in range(layers))
    resources = []
    for name in ("bytes", "us"):
        whole = rng.random() < 0.5
        costs = tuple(
            tuple(float(rng.randint(1, 20)) if whole else rng.uniform(0.1, 5) for _ in range(choices))
            for _ in range(layers)
        )
        most, least = (sum(pick(row) for row in costs) for pick in (max, min))
        resources.append(Resource(name, costs, least + rng.uniform(-0.1, 1) * (most - least)))
    groups = (tuple(rng.sample(range(layers), 2)),) if rng.random() < 0.5 else ()

    def pair() -> tuple[int, int, int, int]:
        i, j = rng.sample(range(layers), 2)
        return i, rng.randrange(choices), j, rng.randrange(choices)

    pairs = {pair(): rng.gauss(0, 0.5) for _ in range(rng.randint(0, 6))}
    for _ in range(rng.randint(0, 2)):  # all pairs of two layers
        i, _, j, _ = pair()
        pairs.update({(i, a, j, b): rng.gauss(0, 0.5) for a in range(choices) for b in range(choices)})
    forbidden = frozenset(pair() for _ in range(rng.randint(0, 2)))
    return Problem(losses, tuple(resources), groups, pairs, forbidden)


def brute(problem: Problem) -> float | None:
    every = product(*(range(len(row)) for row in problem.losses))
    return min((problem.loss(c) for c in every if problem.admits(c)), default=None)


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_best_of_all(seed: int):
    rng = random.Random(seed)
    infeasible = 0
    for _ in range(25):
        problem = drawn(rng)
        best = brute(problem)
        if best is None:
            infeasible += 1
            with pytest.raises(LimitExceeded):
                assign(problem)
            continue
        found = assign(problem)
        assert found.status == "optimal"
        assert problem.admits(found.choices)
        assert found.loss == pytest.approx(best, abs=1e-7)
    assert infeasible < 25


@pytest.mark.acceptance
def test_a_thousand_small_problems_are_solved_to_optimality():
    rng = random.Random(7)
    for _ in range(1000):
        problem = drawn(rng)
        best = brute(problem)
        if best is None:
            with pytest.raises(LimitExceeded):
                assign(problem)
        else:
            assert assign(problem).loss == pytest.approx(best, abs=1e-7)


def test_what_is_feasible_is_named():
    problem = Problem(((1.0, 0.0),) * 3, (Resource("bytes", ((4.0, 8.0),) * 3, 10.0),))
    with pytest.raises(LimitExceeded, match=r"bytes of at least 12 \(it is 10\)"):
        assign(problem)
    both = Problem(((1.0, 0.0),), (Resource("a", ((1.0, 9.0),), 0.5), Resource("b", ((9.0, 1.0),), 0.5)))
    with pytest.raises(LimitExceeded, match="whatever one of the budgets is"):
        assign(both)


@pytest.mark.parametrize("seed", range(5))
def test_losses_of_all_sizes_are_told_apart(seed: int):
    rng = random.Random(seed)
    losses = ((1e7, 1e7), *(tuple(rng.expovariate(1) for _ in range(2)) for _ in range(10)))
    problem = Problem(losses, (Resource("bytes", ((1.0, 1.0), *((1.0, 2.0) for _ in range(10))), 16.0),))
    best = brute(problem)
    assert best is not None
    assert assign(problem).loss - 1e7 == pytest.approx(best - 1e7, abs=1e-6)


def test_too_little_time_is_no_proof_that_nothing_is_feasible():
    rng = random.Random(1)
    losses = tuple(tuple(rng.expovariate(1) / 4**c for c in range(4)) for _ in range(300))
    sizes = tuple(tuple(n * b for b in (2.0, 4.0, 8.0, 16.0)) for n in (rng.uniform(1, 9) for _ in range(300)))
    problem = Problem(losses, (Resource("bytes", sizes, 0.4 * sum(r[-1] for r in sizes)),))
    with pytest.raises(LimitExceeded, match="more time"):
        assign(problem, 1e-9)


def test_large_problems_are_quick():
    rng = random.Random(1)
    losses = tuple(tuple(rng.expovariate(1) / 4**c for c in range(4)) for _ in range(200))
    size = tuple(tuple(n * b for b in (2, 4, 8, 16)) for n in (rng.randint(1, 1000) for _ in range(200)))
    us = tuple(tuple(n * b for b in (3, 4, 6, 16)) for n in (rng.uniform(0.1, 9) for _ in range(200)))
    problem = Problem(
        losses,
        (Resource("bytes", size, 0.4 * sum(r[-1] for r in size)), Resource("us", us, 0.45 * sum(r[-1] for r in us))),
    )
    start = time.perf_counter()
    found = assign(problem)
    assert found.status == "optimal"
    assert time.perf_counter() - start < 5.0  # under a second alone on a machine


def test_the_order_of_the_traces_bounds_the_precisions():
    rng = random.Random(3)
    traces = [rng.expovariate(1) for _ in range(12)]
    losses = tuple(tuple(t * e for e in (4.0, 1.0, 0.1)) for t in traces)
    problem = Problem(losses, (Resource("bytes", ((1.0, 2.0, 4.0),) * 12, 24.0),))
    found = monotone(problem, traces)
    by_trace = [c for _, c in sorted(zip(traces, found.choices, strict=True))]
    assert by_trace == sorted(by_trace)
    assert problem.admits(found.choices)
    assert assign(problem).loss <= found.loss + 1e-9


def test_the_frontier_descends():
    problem = drawn(random.Random(11))
    costs = problem.resources[0].costs
    found = list(pareto(Problem(problem.losses, (Resource("bytes", costs, 0.0),)), "bytes"))
    assert len(found) > 1
    assert [a.loss for _, a in found] == sorted((a.loss for _, a in found), reverse=True)
    assert all(isinstance(a, Assignment) for _, a in found)
    with pytest.raises(UsageError, match="no resource"):
        list(pareto(problem, "watts"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"losses": ()}, "losses"),
        ({"losses": ((float("nan"),),)}, "not finite"),
        ({"losses": ((1.0,),), "resources": (Resource("r", ((1.0, 2.0),), 1.0),)}, "resource r"),
        ({"losses": ((1.0,),), "resources": (Resource("r", ((-1.0,),), 1.0),)}, "negative"),
        ({"losses": ((1.0,), (1.0, 2.0)), "groups": ((0, 1),)}, "groups"),
        ({"losses": ((1.0,), (1.0,)), "pairs": {(0, 0, 0, 0): 1.0}}, "pairs"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict, named: str):
    with pytest.raises(UsageError, match=named):
        Problem(**fields)


def a_file(folder: Path, **changes: object) -> Path:
    rng = random.Random(0)
    count = len(RESNET18["trace"])
    data = {
        **RESNET18,
        "dw2_8bit": [rng.uniform(0.002, 0.1) for _ in range(count)],
        "dw2_4bit": [rng.uniform(0.6, 20) for _ in range(count)],
        "parameters": [float(rng.choice((36864, 147456, 589824))) for _ in range(count)],
        "bops": [115605504.0] * count,
        "latency_int4": [0.2] * count,
        "latency_int8": [0.36] * count,
        "equal_groups": [[4, 6], [9, 11]],
        **changes,
    }
    path = folder / "problem.json"
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))
    return path


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_file_is_a_problem_between_four_and_eight_bits(bound: str, tmp_path: Path):
    path = a_file(tmp_path)
    low, half, high = (assign(read_problem(path, bound, f)) for f in (0.0, 0.5, 1.0))
    assert set(low.choices) == {0}
    assert set(high.choices) == {1}
    assert high.loss < half.loss < low.loss
    assert half.choices[4] == half.choices[6]
    assert read_traces(path) == RESNET18["trace"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trace": None}, "trace is missing"),
        ({"dw2_4bit": [1.0]}, "dw2_4bit has 1 numbers"),
        ({"parameters": [-1.0] * 19}, "parameters holds -1.0"),
        ({"equal_groups": 3}, "equal_groups"),
        ({"equal_groups": [[0, 99]]}, "groups"),
    ],
)
def test_a_damaged_file_is_refused_by_key(changes: dict, named: str, tmp_path: Path):
    with pytest.raises(UsageError, match=named):
        read_problem(a_file(tmp_path, **changes), "size", 0.5)


def test_a_wrong_question_is_refused(tmp_path: Path):
    path = a_file(tmp_path)
    for bound, fraction in (("watts", 0.5), ("size", 1.5)):
        with pytest.raises(UsageError):
            read_problem(path, bound, fraction)
    (tmp_path / "no.json").write_text("[")
    with pytest.raises(UsageError, match=r"no\.json"):
        read_problem(tmp_path / "no.json", "size", 0.5)
