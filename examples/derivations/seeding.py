"""Modules from functions, with weights from a fixed seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Example = tuple[nn.Module, tuple[Tensor, ...]]


class Expression(nn.Module):
    """A function of inputs and of named parameters: ``function(inputs..., **parameters)``."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value, requires_grad=False))
        self.names = tuple(parameters)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **{name: getattr(self, name) for name in self.names})


def example(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], **parameters: Tensor) -> Example:
    """A module in eval mode and its inputs."""
    return Expression(function, **parameters).eval(), inputs


def generator(seed: int = 0) -> torch.Generator:
    """Random numbers that are the same in every run."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """A tensor of normal numbers."""
    return torch.randn(shape, generator=generator(seed))


def draw(*shape: int, seed: int = 0) -> Tensor:
    """A tensor of normal numbers, scaled by the last extent so that products keep their size."""
    return normal(*shape, seed=seed) / max(shape[-1], 1) ** 0.5
