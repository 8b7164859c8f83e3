"""Compilations that store values in eight bits, by scales that calibration data tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.processor import exact_integers
from torch import nn

import tpopt
from tpopt.errors import LimitExceeded
from tpopt.ir import DType, Kernel
from tpopt.ir.walk import stage_reads
from tpopt.runtime.compiled import PlanCallable

torch.manual_seed(0)
LAYERS = nn.Sequential(nn.Linear(256, 384), nn.GELU(), nn.Linear(384, 256), nn.ReLU(), nn.Linear(256, 10)).eval()
IMAGES = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
).eval()  # fmt: skip
CASES: dict[str, Any] = {
    "layers": (LAYERS, (64, 256)),
    "images": (IMAGES, (2, 3, 32, 32)),
}
BUDGET = "error<=5e-2,weights<=0.3x"
"""Whatever is fast on this machine: weights in bf16 are too large for it."""


def batches(shape: tuple[int, ...], count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def integer(fast: tpopt.CompiledModel) -> list[Kernel]:
    assert fast.plan is not None
    stages = [s.stage for s in fast.plan.steps]
    return [s for s in stages if isinstance(s, Kernel) and ".integer_" in s.implementation]


@exact_integers
@pytest.mark.parametrize("kernels", ["library", "all"])
@pytest.mark.parametrize("name", CASES)
def test_weights_of_a_byte_multiply_codes_and_the_error_holds_on_other_data(
    name: str, kernels: str, compiled: Callable[..., Any], tmp_path: Any
):
    model, shape = CASES[name]
    x, *others = batches(shape, 6)
    fast = compiled(
        model, x, choice="measured", kernels=kernels, budget=BUDGET, calibration=others[:3], effort=15, gate=False
    )
    assert integer(fast)
    assert all(s.reads[0].dtype is DType.U8 and s.reads[1].dtype is DType.I8 for s in integer(fast))
    with torch.no_grad():
        for other in others[3:]:
            want = model(other)
            assert (fast(other) - want).norm() <= 5e-2 * want.norm()
    assert fast.report.result.status == "optimized"
    fast.save(tmp_path / "m.tpg")
    assert torch.equal(tpopt.load(tmp_path / "m.tpg")(x), fast(x))


@exact_integers
def test_what_runs_is_stored_as_the_plan_says(compiled: Callable[..., Any]):
    x, *others = batches((64, 256), 3)
    fast = compiled(LAYERS, x, choice="measured", kernels="library", budget=BUDGET, calibration=others, effort=10)
    seen: dict[str, torch.dtype] = {}
    for step in fast.plan.steps:
        seen.update((t.name, t.dtype) for t in (*stage_reads(step.stage), *step.stage.outs))
    values = running_values(fast, x)
    codes = [n for n in values if n.endswith(".u8")]
    assert codes
    assert all(values[n].dtype is torch.uint8 and seen[n] is DType.U8 for n in codes)
    assert {c.dtype for n, c in values.items() if n.endswith(".i8")} <= {torch.int8}


def running_values(fast: tpopt.CompiledModel, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every value of a call, by name."""
    assert isinstance(fast._run, PlanCallable)
    special = fast._run.specializations[0]
    sizes = special.guard.sizes([x])
    return special.bind(sizes).values([x])


@exact_integers
def test_without_calibration_data_nothing_is_stored_in_codes(compiled: Callable[..., Any]):
    x = batches((64, 256), 1)[0]
    options = {"choice": "measured", "kernels": "library", "effort": 10}
    assert not integer(compiled(LAYERS, x, budget="error<=5e-2", **options))
    with pytest.raises(LimitExceeded, match="weights_bytes="):
        compiled(LAYERS, x, budget=BUDGET, **options)


def test_codes_cost_nothing_where_they_are_not_worth_it(compiled: Callable[..., Any]):
    x, *others = batches((64, 256), 3)
    options = {"choice": "measured", "kernels": "library", "effort": 10}
    fast = compiled(LAYERS, x, budget="error<=1e-6", calibration=others, **options)
    assert not integer(fast)
    with torch.no_grad():
        assert (fast(x) - LAYERS(x)).norm() <= 1e-5 * LAYERS(x).norm()


@pytest.mark.parametrize("kernels", ["library", "all"])
def test_a_product_of_one_row_reads_weights_of_a_byte_without_calibration_data(
    kernels: str, compiled: Callable[..., Any], tmp_path: Any
):
    x, *others = batches((1, 256), 4)
    options = {"choice": "measured", "kernels": kernels, "effort": 15, "gate": False}
    fast = compiled(LAYERS, x, budget="error<=2e-2,weights<=0.3x", **options)
    constants = [t for s in fast.plan.steps for t in stage_reads(s.stage) if t.name.endswith(".i8")]
    assert {t.dtype for t in constants} == {DType.I8}
    with torch.no_grad():
        for other in others:
            want = LAYERS(other)
            assert (fast(other) - want).norm() <= 2e-2 * want.norm()
    fast.save(tmp_path / "m.tpg")
    assert torch.equal(tpopt.load(tmp_path / "m.tpg")(x), fast(x))


@pytest.mark.parametrize("depth", [24, 32])
def test_torch_multiplies_weights_of_a_byte_only_at_depths_that_it_can(depth: int, compiled: Callable[..., Any]):
    model, x = nn.Linear(depth, 10).eval(), torch.randn(2, depth)
    fast = compiled(model, x, choice="measured", kernels="library", budget="error<=5e-2", effort=5)
    offered = [c.name for row in fast.report.choice for c in row.candidates if c.name.endswith(".weight-i8")]
    assert bool(offered) == (depth == 32)
    with torch.no_grad():
        assert (fast(x) - model(x)).norm() <= 5e-2 * model(x).norm()
