"""A compiled step does what eager's does, within its budget, in the order that was planned."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.training import CASES, Case, language, mlp
from torch import nn
from torch.nn import functional as F

import tpopt
from tpopt.errors import GuardFailed, LimitExceeded, UnsupportedInput, UnsupportedModel, UsageError
from tpopt.measure.live_bytes import LiveBytes
from tpopt.training.step import CompiledStep

MOVES = 600_000


def compiled(case: Case, budget: str | float, **options: Any) -> tuple[nn.Module, CompiledStep]:
    model = copy.deepcopy(case[0])
    return model, tpopt.compile_step(model, case[1], case[2], budget, moves=MOVES, **options)


def eager(case: Case, seed: int) -> tuple[nn.Module, torch.Tensor, int]:
    """The model after one step, the loss, and the bytes that it took."""
    model, loss_fn, (inputs, targets) = copy.deepcopy(case[0]), case[1], case[2]
    torch.manual_seed(seed)
    with LiveBytes() as count:
        loss = loss_fn(model(inputs), targets)
        loss.backward()
    return model, loss.detach(), count.peak


def state(model: nn.Module) -> list[torch.Tensor | None]:
    return [*(p.grad for p in model.parameters()), *model.buffers()]


def same(a: list[torch.Tensor | None], b: list[torch.Tensor | None]) -> bool:
    return all((x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("budget", [1.0, 0.85])
@pytest.mark.parametrize("name", CASES)
def test_loss_gradients_and_buffers_are_those_of_eager_bit_for_bit(name: str, budget: float):
    torch.manual_seed(0)
    case = CASES[name]()
    expected, loss, peak = eager(case, seed=7)
    model, step = compiled(case, budget)
    torch.manual_seed(7)
    with LiveBytes() as count:
        found = step(case[2])
    assert torch.equal(found, loss)
    assert same(state(model), state(expected))
    assert count.peak == step.report.planned_peak <= budget * peak


def test_the_executed_operations_are_the_planned_sequence_node_by_node():
    case = language()
    _, step = compiled(case, 0.6)
    seen: list[int] = []
    step(case[2], observer=lambda number, seconds, results: seen.append(number))
    assert tuple(seen) == step.plan.sequence
    assert len(step.plan.repeated) > 0
    assert len(seen) == len(step.operations.items) + len(step.plan.repeated)


def test_what_draws_random_numbers_runs_once_and_in_its_order():
    _, step = compiled(language(), 0.6)
    drawn = [k for k in step.plan.sequence if not step.operations.items[k].repeatable]
    assert drawn == sorted(drawn)
    assert len(drawn) == 4


def test_the_measured_peak_never_rises_as_the_budget_falls():
    torch.manual_seed(0)
    case = language()
    peaks = []
    for budget in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        _, step = compiled(case, budget)
        with LiveBytes() as count:
            step(case[2])
        peaks.append(count.peak)
    assert peaks == sorted(peaks, reverse=True)


def test_gradients_accumulate_over_steps():
    case = mlp()
    model, step = compiled(case, 1.0)
    step(case[2])
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    step(case[2])
    assert same([p.grad for p in model.parameters()], [g + g for g in once])


def test_an_optimizer_steps_after_each_backward():
    case = mlp()
    expected = copy.deepcopy(case[0])
    trainer = torch.optim.SGD(expected.parameters(), 0.1)
    model = copy.deepcopy(case[0])
    step = tpopt.compile_step(
        model, case[1], case[2], 1.0, optimizer=torch.optim.SGD(model.parameters(), 0.1), moves=1000
    )
    for _ in range(3):
        step(case[2])
        F.mse_loss(expected(case[2][0]), case[2][1]).backward()
        trainer.step()
        trainer.zero_grad()
    assert same(list(model.parameters()), list(expected.parameters()))


def test_compiling_changes_neither_the_model_nor_the_random_state():
    torch.manual_seed(3)
    case = CASES["convolutions"]()
    before = copy.deepcopy(case[0].state_dict())
    drawn = torch.random.get_rng_state()
    tpopt.compile_step(case[0], case[1], case[2], 1.0, moves=1000)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(before[name], value) for name, value in case[0].state_dict().items())
    assert [p.grad for p in case[0].parameters()] == [None] * len(list(case[0].parameters()))


def test_a_budget_that_cannot_be_kept_says_what_can():
    with pytest.raises(LimitExceeded, match=r"no order of the step within it was found; the lowest peak is .* MiB"):
        compiled(mlp(), 1000)


@pytest.mark.parametrize("budget", ["1.5", "many GiB", "3 parsecs", 0, float("nan")])
def test_a_budget_is_bytes_or_a_part(budget: Any):
    with pytest.raises(UsageError, match="memory_budget"):
        compiled(mlp(), budget)


def test_a_batch_is_a_pair_of_tensors():
    model, loss, _ = mlp()
    with pytest.raises(UnsupportedModel, match="a batch is a pair"):
        tpopt.compile_step(model, loss, torch.ones(3), 1.0)
    with pytest.raises(UnsupportedModel, match="this one has a int"):
        tpopt.compile_step(model, loss, (torch.ones(3, 32), 3), 1.0)


def test_another_shape_or_mode_is_refused():
    case = mlp()
    model, step = compiled(case, 1.0)
    with pytest.raises(UnsupportedInput, match="compile another one"):
        step((torch.randn(3, 32), torch.randn(3, 32)))
    model.eval()
    with pytest.raises(GuardFailed, match=r"model\.training == True"):
        step(case[2])


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() > 0 else x


def test_a_step_that_is_no_graph_says_why():
    with pytest.raises(UnsupportedModel, match="cannot be captured as one graph"):
        tpopt.compile_step(Branching(), F.mse_loss, (torch.ones(2, 4), torch.ones(2, 4)), 1.0)


def test_the_report_shows_peaks_and_what_runs_again():
    _, step = compiled(language(), 0.6)
    text, facts = str(step.report), step.report.to_dict()
    assert "planned peak" in text
    assert sum(row["times"] for row in facts["repeated"]) == len(step.plan.repeated)
    assert max(facts["live_bytes"]) == facts["planned_peak"] <= facts["budget"]
