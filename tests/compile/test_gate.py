from __future__ import annotations

from typing import Any

import pytest
import torch
from support.processor import bf16_products
from support.small import Perceptron
from torch import nn

from tpopt._compile import build, gate
from tpopt.measure import Timings


def raced(compiled: Any) -> Any:
    return compiled(Perceptron().eval(), torch.randn(4, 16), gate=True)


def test_a_plan_that_is_faster_is_handed_out(compiled, times):
    times.update(original=(2.0,) * 5, plan=(1.0,) * 5, plain=(1.5,) * 5)
    result = raced(compiled).report.result
    assert (result.status, result.reason) == ("optimized", "faster end to end than the original")
    assert (result.speedup, result.low, result.high) == (2.0, 2.0, 2.0)


def test_a_plan_that_is_not_is_not(compiled, times):
    times.update(original=(1.0,) * 5, plan=(1.01,) * 5, plain=(1.2,) * 5)
    made = raced(compiled)
    assert made.report.result.status == "original"
    assert made.report.result.reason == "the optimized program was not certainly faster end to end"
    assert made.report.result.speedup == pytest.approx(1 / 1.01)
    assert made.plan is None
    assert made.report.kernels == ()


def test_a_plan_that_is_perhaps_faster_is_not(compiled, times):
    times.update(original=(1.0, 1.2, 1.1, 0.9, 1.3), plan=(1.0,) * 5, plain=(9.0,) * 5)
    result = raced(compiled).report.result
    assert result.low < 1.0 < result.speedup
    assert result.status == "original"


def test_the_plan_of_originals_takes_the_place_of_one_that_is_slower(compiled, times):
    times.update(original=(2.0,) * 5, plan=(1.5,) * 5, plain=(1.0,) * 5)
    made = raced(compiled)
    assert made.report.result.status == "optimized"
    assert made.report.result.reason.startswith("the original operators in one plan")
    assert {s.kind for s in made.plan.steps} == {"original"}
    assert made.report.original_share == 1.0
    assert made.report.verification.passed


def test_a_plan_in_order_takes_the_place_of_one_that_is_slower(compiled, times, monkeypatch):
    """The plan of originals stands for it: it is another one than the chosen."""
    rivals: list[Any] = []

    def without_transposed(attempt: Any, *_: Any) -> Any:
        rivals.append(None if rivals else attempt.plain)
        return rivals[-1]

    monkeypatch.setattr(build, "without_transposed", without_transposed)
    monkeypatch.setattr(build, "_same_kernels", lambda *_: False)
    times.update({"original": (2.0,) * 5, "plan": (1.5,) * 5, "plain": (1.4,) * 5, "in order": (1.0,) * 5})
    made = compiled(Perceptron().eval(), torch.randn(4, 16), gate=True, choice="measured")
    assert made.report.result.reason.endswith("values lie in order that the cheapest plan leaves transposed")
    assert made.plan == rivals[0].plan
    assert made.report.verification.passed
    assert len(rivals) == 2


@pytest.mark.parametrize(
    ("name", "made_by", "plans", "reason"),
    [
        ("libraries", "libraries_alone", lambda attempt, _: attempt.plain, "library kernels alone"),
        ("next 1", "next_best", lambda attempt, _: [attempt.plain], "whose kernels take the least time one by one"),
    ],
)
def test_a_rival_takes_the_place_of_a_plan_that_is_slower(name, made_by, plans, reason, compiled, times, monkeypatch):
    """The plan of originals stands for it: it is another one than the chosen."""
    monkeypatch.setattr(build, made_by, plans)
    monkeypatch.setattr(build, "_same_kernels", lambda *_: False)
    times.update({"original": (2.0,) * 5, "plan": (1.5,) * 5, "plain": (1.4,) * 5, name: (1.0,) * 5})
    made = compiled(Perceptron().eval(), torch.randn(4, 16), gate=True, choice="measured")
    assert made.report.result.status == "optimized"
    assert reason in made.report.result.reason
    assert {s.kind for s in made.plan.steps} == {"original"}
    assert made.report.verification.passed


@bf16_products
def test_the_smallest_is_sought_where_only_time_is_bounded(compiled, times):
    times.update(original=(1.0,) * 5, plan=(2.0,) * 5)
    model, budget = nn.Sequential(nn.Linear(256, 512), nn.Linear(512, 512)).eval(), "latency<=10000ms,error<=2e-2"
    made = compiled(model, torch.randn(64, 256), choice="measured", kernels="library", gate=True, budget=budget)
    result = made.report.result
    assert (result.status, result.reason) == ("optimized", "the smallest within the bound on time")
    assert result.speedup == 0.5
    assert {str(t.dtype) for t in made.plan.program.weights if t.rank == 2} == {"bf16"}


@pytest.mark.parametrize(
    ("rounds", "slow", "decided"),
    [(9, 1.2, True), (8, 1.2, False), (9, 1.04, False)],
    ids=["apart", "too few rounds", "too close"],
)
def test_a_race_ends_early_when_the_winner_is_beyond_doubt(rounds: int, slow: float, decided: bool):
    times = {"plan": (1.0,) * rounds, "original": (slow,) * rounds, "plain": (2.0,) * rounds}
    assert gate._decided(Timings(times)) is decided


def test_one_sample_that_overlaps_keeps_a_race_going():
    times = {"plan": (1.0,) * 8 + (3.0,), "original": (2.0,) * 9}
    assert not gate._decided(Timings(times))
