from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small import Perceptron, Residual
from torch import nn

import tpopt
from tpopt._compile.profile import _Machine
from tpopt.cost_models.roofline import Balance
from tpopt.errors import UnsupportedModel, UsageError


def profiled(compiled: Any, model: nn.Module, x: torch.Tensor, folder: Path, **options: Any) -> tuple[Any, Any]:
    made = compiled(model.eval(), x, **options)
    return made, tpopt.profile(made, x, rounds=3, records=folder / "r.json")


def test_every_kernel_of_the_plan_has_its_time_and_its_work(compiled, tmp_path: Path):
    made, found = profiled(compiled, Residual(), torch.randn(2, 3, 32, 32), tmp_path)
    assert [s.name for s in found.steps] == [s.name for s in made.plan.steps]
    assert sum(s.macs for s in found.steps) == made.report.work.macs_after
    assert sum(s.bytes for s in found.steps) == made.report.work.bytes_after
    assert all(0 < s.low <= s.us <= s.high for s in found.steps)
    assert 0 < found.low <= found.call_us <= found.high
    assert found.rounds == 3
    assert {line for s in found.steps for line in s.source} == {line for k in made.report.kernels for line in k.source}


def test_the_spans_of_a_trace_follow_each_other(compiled, tmp_path: Path):
    _, found = profiled(compiled, Perceptron(), torch.randn(4, 16), tmp_path)
    events = [e for e in json.loads(json.dumps(found.trace()))["traceEvents"] if e["ph"] == "X"]
    assert [e["name"] for e in events] == [s.name for s in found.steps]
    ends = [e["ts"] + e["dur"] for e in events]
    assert events[0]["ts"] == 0
    assert [e["ts"] for e in events[1:]] == pytest.approx(ends[:-1])


def test_who_came_second_makes_the_same_of_the_same(compiled, tmp_path: Path):
    made, found = profiled(compiled, nn.Linear(16, 64), torch.randn(4, 16), tmp_path)
    rows = {c.name: c for cover in made.report.choice for c in cover.candidates}
    second = [s for s in found.steps if s.next_best]
    assert second
    for step in second:
        assert rows[step.next_best].status == "lost"
        assert rows[step.next_best].price_us == step.next_best_us


def test_buffers_that_a_model_updates_keep_their_values(compiled, tmp_path: Path):
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.steps += 1
            return x * self.steps

    made, _ = profiled(compiled, Counts(), torch.ones(3), tmp_path)
    assert made(torch.ones(3)).tolist() == [1.0] * 3


def test_what_cannot_be_profiled_says_why(compiled):
    model, x = Perceptron().eval(), torch.randn(4, 16)
    with pytest.raises(UsageError, match=r"compiled: expected what tpopt\.compile returns, got Perceptron"):
        tpopt.profile(model, x)
    made = compiled(model, x)
    with pytest.raises(UsageError, match="rounds: expected at least 1, got 0"):
        tpopt.profile(made, x, rounds=0)
    kept = tpopt.CompiledModel(model, model, made.report, None, None)
    with pytest.raises(UnsupportedModel, match=r"the original model runs, which has no plan: not raced"):
        tpopt.profile(kept, x)


@pytest.mark.parametrize(
    ("macs", "near", "far", "expected"),
    [
        (50_000, 100, 0, (50.0, "compute")),
        (10, 900, 0, (9.0, "memory")),
        (10, 5_000, 0, (500.0, "memory")),
        (10, 900, 100, (19.0, "memory")),
        (10, 10, 0, (2.0, "call")),
    ],
    ids=["arithmetic", "caches", "memory", "constants come from memory", "a call"],
)
def test_the_roofline_is_the_longest_of_arithmetic_traffic_and_call(macs, near, far, expected):
    balance = Balance(macs_per_us=1000.0, bytes_per_us=10.0, call_us=2.0)
    assert _Machine(balance, {1000: 100.0, 4000: 10.0}).roofline(macs, near, far) == pytest.approx(expected)


def test_a_busy_machine_has_no_roofline(compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpopt.backend.machine._undisturbed", lambda *_: False)
    _, found = profiled(compiled, Perceptron(), torch.randn(4, 16), tmp_path)
    assert found.machine == {}
    assert found.roofline_share is None
    assert "no roofline: other programs held the cores" in str(found)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["steps"][0]["roofline_us"] is None
