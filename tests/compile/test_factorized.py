"""Layers of every kind under a budget: factorized and within it, or left as they are for a reason that is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import tpopt

STRUCTURES = (".low_rank", ".block_train", ".tucker", ".spatial")


class Twice(nn.Module):
    """One layer that is used two times."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(128, 128, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.tanh(self.mix(x)))


class Tied(nn.Module):
    """Two layers with one weight, and biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(128, 128), nn.Linear(128, 128)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


IMAGE = (2, 64, 17, 15)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "strides that differ": (nn.Conv2d(64, 64, 3, stride=(2, 1), padding=1), IMAGE),
    "dilations that differ": (nn.Conv2d(64, 64, 3, padding=(1, 2), dilation=(1, 2)), IMAGE),
    "an oblong kernel and oblong padding": (nn.Conv2d(64, 64, (5, 3), padding=(2, 0)), IMAGE),
    "no bias": (nn.Conv2d(64, 64, 3, padding=1, bias=False), IMAGE),
    "one dimension": (nn.Conv1d(64, 64, 5, stride=2, padding=2, bias=False), (2, 64, 31)),
    "a linear layer without a bias": (nn.Linear(128, 96, bias=False), (64, 128)),
    "a layer used twice": (Twice(), (64, 128)),
    "tied weights": (Tied(), (64, 128)),
}


def planted(model: nn.Module, rank: int = 6) -> nn.Module:
    """The model with weights that have a low rank, but for a little noise."""
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in {id(p): p for p in model.parameters() if p.dim() > 1}.values():
            rows, columns = weight.flatten(1).shape
            low = torch.randn(rows, rank) @ torch.randn(rank, columns) / (rank * columns) ** 0.5
            weight.copy_((low + 1e-5 * torch.randn(rows, columns)).reshape(weight.shape))
    return model.eval()


def structures(fast: tpopt.CompiledModel) -> set[str]:
    """Those of the constants that the plan reads."""
    assert fast.plan is not None
    return {s for w in fast.plan.program.weights for s in STRUCTURES if s in w.name}


def off(model: nn.Module, fast: Callable[..., Any], x: torch.Tensor) -> float:
    with torch.no_grad():
        want = model(x)
        return float((fast(x) - want).norm() / want.norm())


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_low_rank_is_factorized_within_the_budget(name: str, compiled: Callable[..., Any]):
    model, shape = planted(LAYERS[name][0]), LAYERS[name][1]
    fast = compiled(
        model, torch.randn(shape), choice="measured", kernels="library", budget="weights<=0.45x,error<=5e-3"
    )
    assert fast.report.verification.passed
    assert structures(fast)
    assert off(model, fast, torch.randn(shape)) <= 5e-3


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Conv2d(64, 64, 3, padding=1, groups=2), "share the loop"),
        (nn.Conv2d(64, 64, (3, 1), stride=(1, 2), groups=2), "share the loop"),
        (nn.ConvTranspose2d(64, 48, 4, stride=(2, 1)), "not read whole"),
    ],
    ids=["groups", "groups, an oblong kernel and strides that differ", "transposed"],
)
def test_a_layer_that_cannot_be_is_left_and_the_report_says_why(
    model: nn.Module, reason: str, compiled: Callable[..., Any]
):
    fast = compiled(model.eval(), torch.randn(IMAGE), choice="measured", kernels="library", budget="error<=5e-3")
    assert not structures(fast)
    refused = [r.reason for p in fast.report.passes for r in p.refused]
    assert [r for r in refused if reason in r], refused
    assert off(model, fast, torch.randn(IMAGE)) <= 5e-3
