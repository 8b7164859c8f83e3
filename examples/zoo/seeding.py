"""Reproducible models: what every zoo model is built with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Example = tuple[nn.Module, tuple[object, ...]]
"""A module in eval mode, and the positional inputs of one call."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch for the block, and leaves the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def settle(module: nn.Module) -> nn.Module:
    """Puts a module into the state of a trained one: statistics, scales and slopes that are neither 0 nor 1.

    Draws from torch's random state, so call it within :func:`seeded`. Returns the module in eval mode.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean = torch.randn(part.num_features) * 0.1
                part.running_var = torch.rand(part.num_features) + 0.5
            if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)):
                _spread(part.weight, centre=1.0)
                _spread(part.bias, centre=0.0)
            if isinstance(part, nn.PReLU):
                _spread(part.weight, centre=0.25)
    return module.eval()


def he_normal(module: nn.Module) -> None:
    """Draws convolution weights so that a deep ReLU network neither dies out nor explodes (He et al., 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def _spread(parameter: Tensor, centre: float) -> None:
    parameter.copy_(centre + 0.1 * torch.randn(parameter.shape))
