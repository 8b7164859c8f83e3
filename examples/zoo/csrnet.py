"""CSRNet (Li et al., 2018): crowd counting by the front of a VGG-16 and a dilated back end."""

from __future__ import annotations

import torch
from torch import nn

from zoo.seeding import Example, he_normal, seeded, settle

FRONT = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512)
BACK = (512, 512, 512, 256, 128, 64)


def csrnet() -> Example:
    """CSRNet on one image of 128 by 128."""
    layers: list[nn.Module] = []
    with seeded(128):
        channels = 3
        for width in FRONT:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2, stride=2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        for width in BACK:
            layers += [nn.Conv2d(channels, width, 3, padding=2, dilation=2), nn.ReLU(inplace=True)]
            channels = width
        model = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))
        he_normal(model)
        return settle(model), (torch.randn(1, 3, 128, 128),)
