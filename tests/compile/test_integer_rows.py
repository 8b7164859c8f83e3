"""What eight bits are held to: time against float32 and against 16 bits, within a budget on accuracy."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tree import ROOT
from torch import nn

import tpopt
from tpopt.measure import Ratio, interleave

pytestmark = [pytest.mark.acceptance, pytest.mark.serial]
ROUNDS = 15


@pytest.fixture
def trained_nets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "examples")])
    return importlib.import_module("trained")


def ratio(slow: Any, fast: Any, x: torch.Tensor) -> Ratio:
    """How many times as long the first takes."""
    with torch.no_grad():
        timings = interleave({"slow": lambda: slow(x), "fast": lambda: fast(x)}, rounds=ROUNDS)
    return timings.ratio("slow", "fast")


def images(width: int) -> nn.Module:
    def layer(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]

    first, second = [*layer(3, width), *layer(width, width)], [*layer(width, 2 * width), *layer(2 * width, 2 * width)]
    return nn.Sequential(
        *first, nn.MaxPool2d(2), *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10)
    )


LINEAR = [(32, 768, 768), (128, 768, 3072), (128, 3072, 768), (256, 1024, 1024)]


@pytest.mark.parametrize(("rows", "depth", "columns"), LINEAR)
def test_a_linear_layer_in_eight_bits(rows: int, depth: int, columns: int, tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Linear(depth, columns).eval()
    against_float32(model, lambda: torch.randn(rows, depth), tmp_path)


@pytest.mark.parametrize(("batch", "width", "size"), [(1, 64, 56), (4, 48, 64)])
def test_a_convolutional_network_in_eight_bits(batch: int, width: int, size: int, tmp_path: Path):
    torch.manual_seed(0)
    against_float32(images(width).eval(), lambda: torch.randn(batch, 3, size, size), tmp_path)


def against_float32(model: nn.Module, draw: Any, tmp_path: Path) -> None:
    """At least 1.8 times as fast as the best plan in float32, conversions of input and output included."""
    x, *others = [draw() for _ in range(4)]
    options = {"effort": 60, "records": tmp_path / "r"}
    exact = tpopt.compile(model, x, **options)
    fast = tpopt.compile(model, x, budget="error<=5e-2", calibration=others, **options)
    found = ratio(exact, fast, x)
    sys.stdout.write(f"\n{[tuple(x.shape), fast.report.verification.l2_rel]} float32 / 8 bits {found}\n")
    assert found.median >= 1.8


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "attention"])
def test_a_budget_on_accuracy_beats_the_best_plan_in_16_bits(name: str, trained_nets: Any, tmp_path: Path):
    trained = trained_nets.load(name)
    x, held_out = trained.parts["calibration"][0][0], trained.parts["validation"]
    options = {"effort": 90, "records": tmp_path / "r", "budget": "drop<=0.001", "validation": held_out}
    half = tpopt.compile(trained.model, x, **options)
    fast = tpopt.compile(trained.model, x, calibration=trained.parts["calibration"], **options)
    found, tried = ratio(half, fast, x), [r for r in fast.report.pareto if r.note != "exact"]
    layers = sum(isinstance(m, (nn.Linear, nn.Conv2d)) for m in trained.model.modules())
    accuracies = [trained.accuracy(m, "test") for m in (trained.model, half, fast)]
    sys.stdout.write(f"\n{name}: 16 bits / mixed {found}, test accuracy {accuracies}, {len(tried)} plans tried\n")
    assert found.median >= 1 / 0.75
    assert trained.accuracy(fast, "validation") >= 0.999 * trained.accuracy(trained.model, "validation")
    assert len(tried) <= math.ceil(math.log2(layers + 1)) + 3
