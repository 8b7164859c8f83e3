"""The float64 reference, and the error against it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tpopt.bench.reference import in_float64, l2_rel_err, reference_outputs


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.1))
        self.phase = nn.Parameter(torch.full((2,), 0.1 + 0.1j))
        self.register_buffer("shift", torch.full((2,), 0.3))
        self.register_buffer("picks", torch.tensor([1, 0]))

    def forward(self, x):
        return x[self.picks] * self.weight + self.shift, x * self.phase


def test_parameters_and_buffers_are_widened_in_a_copy():
    model = Mixed()
    wide = in_float64(model)
    dtypes = {name: value.dtype for name, value in wide.state_dict().items()}
    assert dtypes == {
        "weight": torch.float64,
        "phase": torch.complex128,
        "shift": torch.float64,
        "picks": torch.int64,
    }
    assert model.weight.dtype == torch.float32
    assert wide.weight.tolist() == model.weight.double().tolist()


def test_the_reference_is_more_accurate_than_fp32():
    model, x = Mixed(), torch.tensor([1.0, 1 / 3])
    outputs, kind = reference_outputs(model, (x,))
    assert kind == "float64"
    assert [leaf.dtype for leaf in outputs] == [torch.float64, torch.complex128]
    assert 1e-9 < l2_rel_err(model(x), outputs) < 1e-7


def test_a_model_that_does_not_run_in_float64_is_its_own_reference():
    model = nn.Linear(3, 2)
    model.register_forward_pre_hook(lambda module, args: (args[0].float(),))
    x = torch.randn(4, 3)
    (output,), kind = reference_outputs(model, (x,))
    assert kind.startswith("fp32, because it does not run in float64: ")
    assert torch.equal(output, model(x))


def test_the_error_is_relative_and_that_of_the_worst_leaf():
    reference = [torch.tensor([3000.0, 4000.0]), torch.tensor([3.0, 4.0])]
    output = {"large": torch.tensor([3000.0, 4000.5]), "small": torch.tensor([3.0, 4.5])}
    assert l2_rel_err(output, reference) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        (torch.zeros(2), torch.zeros(3)),
        (torch.tensor([1]), torch.tensor([2])),
        (torch.tensor([math.nan]), torch.tensor([1.0])),
        (torch.tensor([math.inf]), torch.tensor([-math.inf])),
    ],
    ids=["shape", "integer", "nan", "infinity"],
)
def test_what_cannot_be_compared_is_infinitely_wrong(output, reference):
    assert l2_rel_err(output, [reference]) == math.inf


def test_the_same_infinities_are_no_error():
    assert l2_rel_err(torch.tensor([-math.inf, 2.0]), [torch.tensor([-math.inf, 2.0])]) == 0.0
