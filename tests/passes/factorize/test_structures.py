"""Layers in every structure compute what the weight that their factors stand for computes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tpopt.frontend.trace import trace
from tpopt.ir import Program
from tpopt.ir.to_torch import to_torch
from tpopt.passes.factorize.factorized import Factorized
from tpopt.passes.factorize.layers import Layer, layers
from tpopt.passes.factorize.structures import factorized
from tpopt.rewrite import Refusal, Trace, registry


class Shared(nn.Module):
    """One weight for two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(72, 72)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.relu(self.mix(x)))


class Tied(nn.Module):
    """A table that is looked up, and multiplied with transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(80, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.words(x) @ self.words.weight.T


LAYERS = {
    "linear": (nn.Linear(96, 128), (5, 96), {"low_rank", "block_train"}),
    "linear without a bias, in three axes": (nn.Linear(128, 80, bias=False), (2, 3, 128), {"low_rank", "block_train"}),
    "convolution": (nn.Conv2d(64, 48, 3, padding=1), (2, 64, 9, 8), {"low_rank", "tucker", "spatial"}),
    "strides and dilations that differ": (
        nn.Conv2d(64, 96, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 64, 13, 15),
        {"low_rank", "tucker", "spatial"},
    ),
    "an oblong kernel without a bias": (
        nn.Conv2d(64, 64, (3, 5), padding=(0, 2), bias=False), (1, 64, 13, 15), {"low_rank", "tucker", "spatial"}
    ),
    "one dimension": (nn.Conv1d(64, 64, 5, padding=2), (2, 64, 20), {"low_rank", "tucker"}),
    "pointwise": (nn.Conv2d(128, 64, 1, stride=2), (2, 128, 7, 7), {"low_rank", "block_train"}),
}  # fmt: skip


def cleaned(model: nn.Module, *inputs: torch.Tensor) -> Program:
    torch.manual_seed(0)
    return registry().parse("default").run(trace(model.eval(), inputs).algebra, Trace())


def found(program: Program) -> tuple[list[Layer], list[Refusal]]:
    both = list(layers(program))
    return [x for x in both if isinstance(x, Layer)], [x[1] for x in both if not isinstance(x, Layer)]


def with_factors(program: Program, made: list[Factorized]) -> Program:
    places = {m.layer.stage: m.stages for m in made}
    weights = {t: v for m in made for t, v in m.weights.items()}
    return replace(
        program,
        stages=tuple(s for stage in program.stages for s in places.get(stage, (stage,))),
        weights=(*program.weights, *weights),
        constants={**program.constants, **{t.name: v for t, v in weights.items()}},
    ).validate()


@pytest.mark.parametrize("name", LAYERS)
def test_factors_compute_what_their_weight_computes(name: str):
    model, shape, structures = LAYERS[name]
    x = torch.randn(shape)
    program = cleaned(model, x)
    ((layer,), refused) = found(program)
    assert not refused
    made = list(factorized(layer))
    assert {m.structure.rstrip("0123456789x") for m in made} == structures
    for m in made:
        instead = replace(program, constants={**program.constants, layer.weight.name: m.whole})
        got, want = (to_torch(p, dtype=torch.float64)(x.double())[0] for p in (with_factors(program, [m]), instead))
        assert (got - want).norm() <= 1e-6 * want.norm()
        assert m.macs <= layer.macs() * 0.55
        assert m.parameters == sum(v.size for v in m.weights.values())
        weight = program.constants[layer.weight.name]
        assert m.error == pytest.approx(np.linalg.norm(m.whole - weight) / np.linalg.norm(weight), rel=1e-4)


def test_structures_can_be_bounded_by_their_error():
    (layer,), _ = found(cleaned(nn.Linear(96, 128), torch.randn(5, 96)))
    every = list(factorized(layer))
    limit = sorted(m.error for m in every)[1]
    assert {m.structure for m in factorized(layer, most_error=limit + 1e-9)} == {
        m.structure for m in every if m.error <= limit + 1e-9
    }
    assert not list(factorized(layer, most_error=0.01))


def test_a_layer_that_is_used_twice_has_one_set_of_factors():
    x = torch.randn(4, 72)
    program = cleaned(Shared(), x)
    own, _ = found(program)
    assert len(own) == 2
    assert own[0].weight is own[1].weight
    made = [next(iter(factorized(layer))) for layer in own]
    assert made[0].weights.keys() == made[1].weights.keys()
    instead = replace(program, constants={**program.constants, own[0].weight.name: made[0].whole})
    got, want = (to_torch(p)(x)[0] for p in (with_factors(program, made), instead))
    assert (got - want).norm() <= 1e-5 * want.norm()


def test_a_table_that_is_looked_up_too_is_a_layer_where_it_is_multiplied():
    ids = torch.randint(80, (3, 4))
    program = cleaned(Tied(), ids)
    own, _ = found(program)
    assert len(own) == 1
    (m,) = [m for m in factorized(own[0], ratios=(2.0,)) if m.structure.startswith("low_rank")]
    instead = Tied().eval()
    instead.words.weight.data = torch.from_numpy(np.asarray(program.constants[own[0].weight.name]).copy())
    with torch.no_grad():
        want = instead.words(ids) @ torch.from_numpy(m.whole).T
    got = to_torch(with_factors(program, [m]))(ids)[0]
    assert (got - want).norm() <= 1e-5 * want.norm()


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (nn.Conv2d(64, 64, 3, groups=2), (1, 64, 9, 9), "share the loop"),
        (nn.ConvTranspose2d(64, 48, 4, stride=2), (1, 64, 5, 5), "not read whole"),
        (nn.Linear(16, 16), (2, 16), "fewer than"),
    ],
)
def test_what_is_no_layer_is_refused_with_the_reason(model: nn.Module, shape: tuple[int, ...], reason: str):
    x = torch.randn(shape)
    own, refused = found(cleaned(model, x))
    assert not own
    assert any(re.search(reason, r.reason) for r in refused)
