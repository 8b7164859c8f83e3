"""The best plan without generated kernels, which takes part in the last race."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import nn

from tpopt._compile.attempt import Attempt
from tpopt._compile.build import build
from tpopt._compile.libraries import CLOSE, REASON, libraries_alone
from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.cover import Choice
from tpopt.options import Kernels, Options

NET = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.LayerNorm(64)).eval()


def after(times: float, kernels: Kernels = "all") -> tuple[Choice, Choice | None]:
    """A plan chosen by prices alone, and that of the libraries, whose kernels have ``times`` their price."""
    inputs = (torch.randn(16, 32),)
    attempt = Attempt(NET, inputs, {}, None, Options(choice="model", gate=False, kernels=kernels), time.perf_counter())
    choice = build(attempt).choice
    keys = {c.key for c in choice.found.admitted if not is_generated(c)}
    total = choice.solution.total_us
    share = total / sum(choice.prices[k].us for k in keys) if keys else 1.0
    prices = {k: replace(p, us=times * share * p.us) if k in keys else p for k, p in choice.prices.items()}
    return choice, libraries_alone(attempt, replace(choice, prices=prices))


def test_it_runs_kernels_of_libraries_alone():
    choice, again = after(1.0)
    assert any(map(is_generated, choice.solution.picked))
    assert again is not None
    assert not any(map(is_generated, again.solution.picked))
    assert REASON in {r.reason for r in again.found.refused}


def test_there_is_none_where_it_is_far_behind():
    _, again = after(100 * CLOSE)
    assert again is None


def test_there_is_none_where_the_plan_generates_nothing():
    choice, again = after(1.0, "library")
    assert not any(map(is_generated, choice.solution.picked))
    assert again is None
