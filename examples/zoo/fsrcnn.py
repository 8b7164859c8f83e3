"""FSRCNN (Dong et al., 2016): super-resolution that works at the low resolution until its last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.seeding import Example, seeded, settle


class FSRCNN(nn.Module):
    """Luminance N×1×H×W to N×1×(scale·H)×(scale·W)."""

    def __init__(self, scale: int = 4, features: int = 56, shrunk: int = 12, mappings: int = 4) -> None:
        super().__init__()
        self.extract = nn.Sequential(nn.Conv2d(1, features, 5, padding=2), nn.PReLU(features))
        self.shrink = nn.Sequential(nn.Conv2d(features, shrunk, 1), nn.PReLU(shrunk))
        self.map = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk)) for _ in range(mappings))
        )
        self.expand = nn.Sequential(nn.Conv2d(shrunk, features, 1), nn.PReLU(features))
        self.upsample = nn.ConvTranspose2d(features, 1, 9, stride=scale, padding=4, output_padding=scale - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(self.expand(self.map(self.shrink(self.extract(x)))))


def fsrcnn() -> Example:
    """FSRCNN(56, 12, 4), four times larger, on one image of 256 by 256."""
    with seeded(56):
        return settle(FSRCNN()), (torch.rand(1, 1, 256, 256),)
