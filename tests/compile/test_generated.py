"""Whole models on generated kernels alone."""

from __future__ import annotations

import pytest
import torch
from support.small import Perceptron, Residual
from torch import nn

from tpopt.bench.suites import load_suite
from tpopt.ir import Compute

ZOO = (
    "resnet18 dcgan infogan fsrcnn gcn csrnet longformer fno2d bert mace mobilenet_v2 vit_s16 gpt2_prefill gpt2_decode"
).split()
SMALL = {
    "perceptron": (Perceptron(), torch.randn(4, 16)),
    "convolutions": (Residual(), torch.randn(2, 3, 16, 16)),
}


def computed_otherwise(made) -> list[str]:
    """Values of the algebra that a step of the plan computes which is not generated."""
    algebra = {o.name for s in made.program.stages if isinstance(s, Compute) for o in s.outs}
    return [o.name for s in made.plan.steps if s.kind != "generated" for o in s.stage.outs if o.name in algebra]


def check(made, model: nn.Module, inputs: tuple) -> None:
    assert made.report.result.status == "optimized", made.report.result.reason
    assert made.report.verification.passed
    assert computed_otherwise(made) == []
    with torch.no_grad():
        torch.testing.assert_close(made(*inputs), model(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("choice", ["model", "measured"])
@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_runs_on_generated_kernels_alone(name: str, choice: str, compiled):
    model, x = SMALL[name]
    check(compiled(model.eval(), x, kernels="generated", choice=choice), model, (x,))


@pytest.mark.acceptance
@pytest.mark.parametrize("name", ZOO)
def test_a_model_of_the_zoo_runs_on_generated_kernels_alone(name: str, compiled):
    model, inputs = load_suite("zoo")[name]()
    made = compiled(model, inputs, kernels="generated", choice="model")
    check(made, model, inputs)
