"""The plans next to the cheapest, which take part in the last race."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, combinations
from typing import Any

import pytest
import torch
from torch import nn

from tpopt._compile import build as stages
from tpopt._compile.attempt import Attempt
from tpopt._compile.build import build
from tpopt._compile.next_best import CLOSE, MOST, REASON, next_best
from tpopt.choose.candidate import Candidate, Value
from tpopt.choose.cover import Choice
from tpopt.choose.solve import Spending
from tpopt.options import Options

NET = nn.Sequential(nn.Linear(32, 64), nn.ReLU()).eval()


def chosen(model: nn.Module, prices: dict[str, float] | None = None) -> tuple[Attempt, Choice]:
    """A plan chosen by prices alone, which are by name of the candidate where they are given."""
    options = Options(choice="model", gate=False, kernels="library")
    attempt = Attempt(model, (torch.randn(16, 32),), {}, None, options, time.perf_counter())
    choice = build(attempt).choice
    names = {c.key: c.name for c in choice.found.admitted}
    given = {k: replace(p, us=(prices or {}).get(names.get(k, ""), p.us)) for k, p in choice.prices.items()}
    return attempt, replace(choice, prices=given)


def covers(attempt: Attempt, choice: Choice) -> Iterator[frozenset[str]]:
    """Every set of candidates that computes the outputs, and of which none is superfluous."""
    assert attempt.traced is not None
    given = {Value(t.name) for t in (*attempt.traced.original.inputs, *attempt.traced.original.weights)}
    wanted = {Value(o.name) for o in attempt.traced.original.outputs}
    found = choice.found.admitted
    known: list[frozenset[str]] = []
    for some in chain.from_iterable(combinations(found, n) for n in range(1, 4)):
        names = frozenset(c.name for c in some)
        if wanted <= _computed(some, given) and not any(k < names for k in known):
            known.append(names)
            yield names


def _computed(some: tuple[Candidate, ...], given: set[Value]) -> set[Value]:
    there, size = set(given), -1
    while len(there) > size:
        size = len(there)
        there |= {v for c in some if there.issuperset(c.needs) for v in c.produces}
    return there


def test_they_are_the_cheapest_of_all_other_covers():
    attempt, choice = chosen(NET)
    price = {c.name: choice.prices[c.key].us for c in choice.found.admitted}
    best = frozenset(c.name for c in choice.solution.picked)
    others = sorted(sum(price[n] for n in names) for names in covers(attempt, choice) if names != best)
    found = next_best(attempt, choice)
    assert 1 <= len(found) <= MOST
    assert found[0].solution.total_us == pytest.approx(others[0])
    assert found[0].solution.total_us <= CLOSE * choice.solution.total_us
    assert all(best - {c.name for c in other.solution.picked} for other in found)
    assert REASON in {r.reason for r in found[0].found.refused}


def test_they_keep_the_budgets_of_the_chosen_plan(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpopt._compile.next_best.CLOSE", 100.0)
    attempt, choice = chosen(NET)
    names = {c.name for c in choice.solution.picked}
    first, *_ = next_best(attempt, choice)
    dear = next(c.name for c in first.solution.picked if c.name not in names)
    within = next_best(attempt, replace(choice, spending=(Spending({dear: 1}, 0),)))
    assert within
    assert not any(c.name == dear for other in within for c in other.solution.picked)


def test_there_is_none_where_all_others_are_far_behind():
    attempt, choice = chosen(NET)
    price = {c.name: choice.prices[c.key].us for c in choice.found.admitted}
    far = {n: 2 * CLOSE * us for n, us in price.items() if n not in {c.name for c in choice.solution.picked}}
    attempt, choice = chosen(NET, far)
    assert next_best(attempt, choice) == []


def test_a_kernel_that_takes_little_is_not_asked_about(monkeypatch: pytest.MonkeyPatch):
    attempt, choice = chosen(NET)
    assert next_best(attempt, choice)
    monkeypatch.setattr("tpopt._compile.next_best.DEAR", 1.1)
    assert next_best(attempt, choice) == []


def test_no_plan_runs_twice(compiled: Any, times: Any, monkeypatch: pytest.MonkeyPatch):
    """What is the chosen plan, or that of the originals, does not run under another name."""
    monkeypatch.setattr(stages, "without_transposed", lambda *_: None)
    monkeypatch.setattr(stages, "next_best", lambda attempt, choice: [choice, attempt.plain])
    compiled(NET, torch.randn(16, 32), gate=True, choice="measured")
    assert {"original", "plan", "plain"} <= times.keys() <= {"original", "plan", "plain", "libraries"}
