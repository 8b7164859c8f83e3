from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table

ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.7),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 1.3),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softplus beta": lambda x: F.softplus(x, 2.0, 5.0),
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.1, -7.0),
    "softshrink": lambda x: F.softshrink(x, 0.3),
    "hardshrink": lambda x: F.hardshrink(x, 0.3),
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.4, training=False),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "glu": lambda x: F.glu(x, -1),
    "glu first": lambda x: F.glu(x, 0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_activations(dtype):
    check_table(ACTIVATIONS, (torch.linspace(-30, 30, 48, dtype=torch.float64).reshape(6, 8) / 4).to(dtype))


def test_activations_of_run_time_extents():
    check_table(ACTIVATIONS, torch.randn(6, 8), dynamic=({0: torch.export.Dim.AUTO},), also=[(torch.randn(10, 8),)])


def test_activations_at_extreme_values():
    check_table(ACTIVATIONS, torch.tensor([[-1e4, 1e4], [0.0, -0.0], [float("inf"), 100.0], [-90.0, -200.0]]).t())


def test_prelu_with_one_slope_and_one_for_each_channel():
    for shape, slopes in (((2, 3, 4), 3), ((2, 3, 4), 1), ((5,), 1), ((), 1), ((2, 3), 3), ((2, 1, 4), 1)):
        check_lowering(F.prelu, torch.randn(shape), torch.rand(slopes))


def test_training_time_randomness_stays_whole():
    check_lowering(lambda x: F.rrelu(x, 0.1, 0.1, training=True), -torch.rand(3), opaque=["aten.rrelu.default"])


def test_rrelu_hands_its_noise_on():
    noisy = torch.ops.aten.rrelu_with_noise_functional.default
    traced = check_lowering(lambda x, noise: noisy(x, noise), torch.randn(3, 5), torch.rand(3, 5))
    assert traced.outputs[1].name == "args_1"
