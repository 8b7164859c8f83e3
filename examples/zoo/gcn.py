"""The blocks of a global convolutional network (Peng et al., 2017): large kernels as pairs of one-dimensional ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.seeding import Example, seeded, settle


class GlobalConvolution(nn.Module):
    """Two branches, k×1 then 1×k and 1×k then k×1, added."""

    def __init__(self, channels: int, out_channels: int, k: int) -> None:
        super().__init__()

        def tall(channels: int) -> nn.Module:
            return nn.Conv2d(channels, out_channels, (k, 1), padding=(k // 2, 0))

        def wide(channels: int) -> nn.Module:
            return nn.Conv2d(channels, out_channels, (1, k), padding=(0, k // 2))

        self.left = nn.Sequential(tall(channels), wide(out_channels))
        self.right = nn.Sequential(wide(channels), tall(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class GlobalConvolutions(nn.Module):
    """One block for each level of a feature pyramid."""

    def __init__(self, channels: tuple[int, ...], classes: int = 21, k: int = 7) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(GlobalConvolution(c, classes, k) for c in channels)

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        return tuple(block(level) for block, level in zip(self.blocks, levels, strict=True))


def gcn() -> Example:
    """Blocks with k = 7 and 21 classes on the four levels of a ResNet-50 pyramid."""
    levels = ((2048, 7), (1024, 14), (512, 28), (256, 56))
    with seeded(21):
        model = GlobalConvolutions(tuple(channels for channels, _ in levels))
        return settle(model), tuple(torch.randn(1, channels, size, size) for channels, size in levels)
