"""Generators made of transposed convolutions: DCGAN (Radford et al., 2015) and InfoGAN (Chen et al., 2016)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from zoo.seeding import Example, seeded, settle


def dcgan() -> Example:
    """DCGAN generator: 16 latent vectors of 100 to 16 images of 64 by 64."""
    widths = (100, 512, 256, 128, 64)
    with seeded(100):
        layers: list[nn.Module] = []
        for i, (channels, out_channels) in enumerate(pairwise(widths)):
            stride, padding = (1, 0) if i == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(channels, out_channels, 4, stride, padding, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh()]
        return settle(nn.Sequential(*layers)), (torch.randn(16, 100, 1, 1),)


def infogan() -> Example:
    """InfoGAN generator: 16 latent codes of 228 to 16 images of 32 by 32."""
    with seeded(228):
        model = nn.Sequential(
            nn.ConvTranspose2d(228, 448, 2, stride=1, bias=False),
            nn.BatchNorm2d(448),
            nn.ReLU(),
            nn.ConvTranspose2d(448, 256, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 128, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        return settle(model), (torch.randn(16, 228, 1, 1),)
