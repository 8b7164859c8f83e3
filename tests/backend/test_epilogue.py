from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.kernels import offer
from torch import Tensor, nn

from tpopt.backend.library.epilogue import ACTIVATIONS, activation_of, added_to, epilogues
from tpopt.ir import Compute

F = nn.functional
X = torch.randn(3, 5, 7)


def applied(function: Callable[..., Tensor], x: Tensor = X, pipeline: str = "default") -> str | None:
    """The activation that the last stage of a function's algebra applies to its input."""
    made = offer(function, x, pipeline=pipeline)
    stage = made.cleaned.stages[-1]
    assert isinstance(stage, Compute)
    return activation_of(stage, made.cleaned.inputs[0])


KNOWN: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "relu": [F.relu, torch.relu, lambda x: x.clamp(min=0), nn.ReLU()],
    "relu6": [F.relu6, nn.ReLU6(), lambda x: x.clamp(0, 6), lambda x: F.hardtanh(x, 0.0, 6.0)],
    "sigmoid": [torch.sigmoid, nn.Sigmoid()],
    "tanh": [torch.tanh, nn.Tanh()],
    "gelu": [F.gelu, nn.GELU()],
    "gelu_tanh": [lambda x: F.gelu(x, approximate="tanh"), nn.GELU("tanh")],
    "silu": [F.silu, nn.SiLU(), lambda x: x * torch.sigmoid(x)],
    "hardswish": [F.hardswish, nn.Hardswish()],
    "hardsigmoid": [F.hardsigmoid, nn.Hardsigmoid()],
}


def test_every_activation_is_tried_below():
    assert sorted(KNOWN) == sorted(a for a in ACTIVATIONS if a)


@pytest.mark.parametrize(("name", "function"), [(n, f) for n, group in KNOWN.items() for f in group])
def test_every_activation_as_torch_writes_it_has_its_name(name: str, function: Callable[[Tensor], Tensor]):
    assert applied(function, pipeline="default,fuse-pointwise") == name


@pytest.mark.parametrize("pipeline", ["none", "default"])
def test_a_name_is_found_before_and_after_simplification(pipeline: str):
    for name, functions in KNOWN.items():
        assert applied(functions[0], pipeline=pipeline) == name


NEAR_MISSES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.clamp(min=1e-3),
    lambda x: x.clamp(0, 5.5),
    F.elu,
    F.leaky_relu,
    F.mish,
    F.softplus,
    torch.exp,
    lambda x: x.abs(),
]


@pytest.mark.parametrize("function", NEAR_MISSES)
def test_what_is_nearly_an_activation_has_no_name(function: Callable[[Tensor], Tensor]):
    assert applied(function) is None


def test_an_activation_of_another_point_has_no_name():
    assert applied(lambda x: x.transpose(1, 2).relu(), torch.randn(3, 5, 5)) is None
    assert applied(lambda x: x[:2].relu()) is None


def test_an_axis_of_extent_one_is_the_same_point():
    assert applied(F.relu, torch.randn(1, 5, 1)) == "relu"


def sums(function: Callable[..., Tensor], *args: Tensor) -> tuple[str, str] | None:
    made = offer(function, *args, pipeline="default,fuse-pointwise")
    (stage,) = made.cleaned.stages
    assert isinstance(stage, Compute)
    found = added_to(stage, made.cleaned.inputs[0])
    return None if found is None else (found[0].name, found[1])


Y = torch.randn(3, 5, 7)


def test_an_added_tensor_is_found_with_its_activation():
    assert sums(lambda x, y: x + y, X, Y) == ("args_1", "")
    assert sums(lambda x, y: y + x, X, Y) == ("args_1", "")
    assert sums(lambda x, y: torch.relu(x + y), X, Y) == ("args_1", "relu")


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + 2 * y,
        lambda x, y: x - y,
        lambda x, y: x + y[:1],
        lambda x, y: x + y.flip(0),
        lambda x, y: torch.relu(x + y) * x,
        lambda x, y: F.elu(x + y),
        lambda x, y: x + x,
    ],
)
def test_what_is_nearly_an_added_tensor_is_not(function: Callable[..., Tensor]):
    assert sums(function, X, Y) is None


def test_epilogues_are_what_the_consumers_allow_the_empty_one_first():
    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        z = x @ y
        return torch.relu(z), torch.tanh(torch.exp(z)), torch.relu(z + x), z + y

    made = offer(function, torch.randn(5, 5), torch.randn(5, 5))
    out = next(t for t in made.cleaned.tensors.values() if t.name == "matmul")
    found = [(e.out.name, e.other.name if e.other else "", e.activation) for e in epilogues(made.cleaned, out)]
    assert found == [
        ("matmul", "", ""),
        ("relu", "", "relu"),
        ("add", "args_0", ""),
        ("relu_1", "args_0", "relu"),
        ("add_1", "args_1", ""),
    ]
