"""What eight bits are held to: time against float32 and against 16 bits, within a budget on accuracy."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import budgets
import pytest
import torch
from torch import Tensor, nn

import tpopt
from tpopt.measure import Ratio, interleave

pytestmark = [pytest.mark.acceptance, pytest.mark.serial]
ROUNDS = 15
FASTER = 1.8
"""Than the best plan in float32, conversions of inputs and outputs included."""
LATENCY_CUT = 0.25


def ratio(slow: Callable[[Tensor], object], fast: Callable[[Tensor], object], x: Tensor) -> Ratio:
    """How many times as long the first takes."""
    with torch.no_grad():
        timings = interleave({"slow": lambda: slow(x), "fast": lambda: fast(x)}, rounds=ROUNDS)
    return timings.ratio("slow", "fast")


def against_float32(model: nn.Module, draw: Callable[[], Tensor], records: Path) -> Ratio:
    """The best plan in float32 against that within an error of 5 %, calibrated."""
    x, *others = [draw() for _ in range(4)]
    exact = tpopt.compile(model.eval(), x, effort=60, records=records)
    fast = tpopt.compile(model, x, effort=60, records=records, budget="error<=5e-2", calibration=others)
    found = ratio(exact, fast, x)
    sys.stdout.write(f"\n{tuple(x.shape)}: float32 / 8 bits {found}, error {fast.report.verification.l2_rel:.1e}\n")
    return found


def images(width: int) -> nn.Module:
    def layer(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]

    first, second = [*layer(3, width), *layer(width, width)], [*layer(width, 2 * width), *layer(2 * width, 2 * width)]
    return nn.Sequential(
        *first, nn.MaxPool2d(2), *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10)
    )


@pytest.mark.parametrize(
    ("rows", "depth", "columns"), [(32, 768, 768), (128, 768, 3072), (128, 3072, 768), (256, 1024, 1024)]
)
def test_a_linear_layer_in_eight_bits(rows: int, depth: int, columns: int, tmp_path: Path):
    torch.manual_seed(0)
    found = against_float32(nn.Linear(depth, columns), lambda: torch.randn(rows, depth), tmp_path / "r")
    assert found.median >= FASTER


@pytest.mark.parametrize(("batch", "width", "size"), [(1, 64, 56), (4, 48, 64)])
def test_a_convolutional_network_in_eight_bits(batch: int, width: int, size: int, tmp_path: Path):
    torch.manual_seed(0)
    found = against_float32(images(width), lambda: torch.randn(batch, 3, size, size), tmp_path / "r")
    assert found.median >= FASTER


@pytest.mark.parametrize("name", budgets.NETS)
def test_a_budget_on_accuracy_beats_the_best_plan_in_16_bits(name: str):
    trained = budgets.load(name)
    half, fast = (budgets.within(trained, calibrated=c) for c in (False, True))
    found, tried = ratio(half, fast, trained.example), [r for r in fast.report.pareto if r.note != "exact"]
    layers = sum(isinstance(m, nn.Linear | nn.Conv2d) for m in trained.model.modules())
    shown = [round(budgets.accuracy(m, trained.test), 4) for m in (trained.model, half, fast)]
    sys.stdout.write(f"\n{name}: 16 bits / mixed {found}, test accuracy {shown}, {len(tried)} plans tried\n")
    assert found.median >= 1 / (1 - LATENCY_CUT)
    before, after = (budgets.accuracy(m, trained.validation) for m in (trained.model, fast))
    assert after >= 0.999 * before
    assert len(tried) <= math.ceil(math.log2(layers + 1)) + 3
