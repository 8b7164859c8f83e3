"""What every case is built with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Example = tuple[nn.Module, tuple[object, ...]]
"""A module in eval mode, and the positional inputs of one call."""


class Formula(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """A tensor of standard normal numbers; the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> tuple[Tensor, ...]:
    """One tensor for each shape."""
    return tuple(normal(*shape, seed=seed + n) for n, shape in enumerate(shapes))


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose weights come from a seed; the caller's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()
