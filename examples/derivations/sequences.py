"""Sequences: banded products and long convolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from derivations.seeding import Example, draw, example


def dilated_band(n: int = 8, tokens: int = 10_000, width: int = 64, window: int = 16, dilation: int = 4) -> Example:
    """Scores of each query with the keys around it, every ``dilation``-th of them."""

    def band(q: Tensor, k: Tensor) -> Tensor:
        reach = window * dilation
        keys = pad(k, (0, 0, reach, reach)).unfold(1, 2 * reach + 1, 1)[..., ::dilation]
        return torch.einsum("bmk,bmkw->bmw", q, keys)

    return example(band, (draw(n, tokens, width), draw(n, tokens, width, seed=1)))


def long_convolution(length: int = 4096, channels: int = 4) -> Example:
    """A causal convolution as long as its input, by transforms."""

    def convolve(u: Tensor, k: Tensor) -> Tensor:
        size = 2 * length
        return torch.fft.irfft(torch.fft.rfft(u, n=size) * torch.fft.rfft(k, n=size), n=size)[..., :length]

    return example(convolve, (draw(channels, length),), k=draw(channels, length, seed=1))
