"""Fourier neural operator in two dimensions (Li et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from zoo.seeding import Example, he_normal, seeded, settle


class SpectralConv2d(nn.Module):
    """Mixes channels at the lowest ``modes`` frequencies of either sign, and drops the others."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        shape = (channels, channels, modes, modes)
        self.weights1 = nn.Parameter(torch.randn(shape, dtype=torch.cfloat) / channels)
        self.weights2 = nn.Parameter(torch.randn(shape, dtype=torch.cfloat) / channels)

    def forward(self, x: Tensor) -> Tensor:
        m = self.modes
        spectrum = torch.fft.rfft2(x)
        mixed = torch.zeros_like(spectrum)
        mixed[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :m, :m], self.weights1)
        mixed[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -m:, :m], self.weights2)
        return torch.fft.irfft2(mixed, s=x.shape[-2:])


class FNO2d(nn.Module):
    """Fields N×C×H×W to N×1×H×W."""

    def __init__(self, channels: int = 3, width: int = 32, modes: int = 12, layers: int = 4) -> None:
        super().__init__()
        self.lift = nn.Conv2d(channels, width, 1)
        self.spectral = nn.ModuleList(SpectralConv2d(width, modes) for _ in range(layers))
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.project = nn.Sequential(nn.Conv2d(width, 128, 1), nn.GELU(), nn.Conv2d(128, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        last = len(self.spectral) - 1
        for i, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            x = spectral(x) + pointwise(x)
            if i < last:
                x = gelu(x)
        return self.project(x)


def fno2d() -> Example:
    """Width 32, 12 modes, 4 layers, on 4 fields of 3 channels on a grid of 64 by 64."""
    with seeded(64):
        model = FNO2d()
        he_normal(model)
        return settle(model), (torch.randn(4, 3, 64, 64),)
