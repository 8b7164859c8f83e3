"""How the architectures are built: seeded, in eval mode, with statistics that are not trivial."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

Example = tuple[nn.Module, tuple[object, ...]]


def seeded(builder: Callable[[], Example]) -> Callable[[], Example]:
    """Builds under a seed of its own, and leaves the global random state alone."""

    @functools.wraps(builder)
    def build() -> Example:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sum(map(ord, builder.__name__)))
            model, inputs = builder()
            for part in model.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.running_mean = torch.randn(part.num_features) * 0.1
                    part.running_var = torch.rand(part.num_features) + 0.5
                if isinstance(part, nn.LayerNorm):  # else the mean of what was normalized before is rounding alone
                    part.bias.data.copy_(torch.randn(part.bias.shape) * 0.1)
            return model.eval(), inputs

    return build
