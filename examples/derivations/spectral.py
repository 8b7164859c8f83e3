"""Transforms and complex products."""

from __future__ import annotations

import torch
from torch import Tensor

from derivations.seeding import Example, draw, example


def complex_mix(n: int = 16, channels: int = 64, modes: int = 288) -> Example:
    """Channels mixed at each frequency by complex weights, as real and imaginary parts."""

    def mix(xr: Tensor, xi: Tensor, wr: Tensor, wi: Tensor) -> Tensor:
        def product(a: Tensor, b: Tensor) -> Tensor:
            return torch.einsum("bim,iom->bom", a, b)

        return torch.stack([product(xr, wr) - product(xi, wi), product(xr, wi) + product(xi, wr)], -1)

    x = (draw(n, channels, modes), draw(n, channels, modes, seed=1))
    return example(mix, x, wr=draw(channels, channels, modes, seed=2), wi=draw(channels, channels, modes, seed=3))


def spectral_chain(n: int = 4, channels: int = 8, side: int = 64, modes: int = 12) -> Example:
    """Two spectral operators without a nonlinearity between them."""

    def chain(x: Tensor, ar: Tensor, ai: Tensor, br: Tensor, bi: Tensor) -> Tensor:
        for wr, wi in ((ar, ai), (br, bi)):
            spectrum = torch.fft.rfft2(x)
            kept = torch.zeros_like(spectrum)
            kept[..., :modes, :modes] = spectrum[..., :modes, :modes] * torch.complex(wr, wi)
            x = torch.fft.irfft2(kept, s=(side, side))
        return x

    weights = {name: draw(channels, modes, modes, seed=s) for s, name in enumerate(("ar", "ai", "br", "bi"))}
    return example(chain, (draw(n, channels, side, side),), **weights)


def spectral_corners(n: int = 4, channels: int = 32, side: int = 64, modes: int = 12) -> Example:
    """A Fourier layer that keeps the two corners of low frequencies, each mixed by weights of its own."""

    def layer(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x)
        kept = torch.zeros_like(spectrum)
        for rows, weight in ((slice(modes), a), (slice(-modes, None), b)):
            kept[:, :, rows, :modes] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, rows, :modes], weight)
        return torch.fft.irfft2(kept, s=(side, side))

    sizes = (channels, channels, modes, modes)
    weights = {k: torch.complex(draw(*sizes, seed=s), draw(*sizes, seed=s + 1)) for k, s in (("a", 1), ("b", 3))}
    return example(layer, (draw(n, channels, side, side),), **weights)
