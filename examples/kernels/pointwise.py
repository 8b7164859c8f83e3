"""Chains of four pointwise operators and more, as they stand between the large operators of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from kernels.seeding import Example, Formula, normal, tensors

Shape = tuple[int, ...]


def gated(shape: Shape) -> Example:
    """SwiGLU with a residual and a scale."""
    return Formula(lambda x, y, r, s: r + s * (functional.silu(x) * y)), tensors(shape, shape, shape, shape[-1:])


def biased_gelu(shape: Shape) -> Example:
    """What follows a linear layer: bias, GELU, scale, residual."""
    return Formula(lambda x, b, s, r: functional.gelu(x + b) * s + r), tensors(shape, shape[-1:], shape[-1:], shape)


def lstm_cell(shape: Shape) -> Example:
    """The new hidden state of an LSTM cell from its gates (Hochreiter, Schmidhuber, 1997)."""

    def cell(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c: Tensor) -> Tensor:
        return torch.sigmoid(o) * torch.tanh(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))

    return Formula(cell), tensors(*[shape] * 5)


def normalized_swish(shape: Shape) -> Example:
    """A batch norm in eval mode, a hard swish and a residual, channel by channel."""
    channels = (shape[1],) + (1,) * (len(shape) - 2)

    def chain(x: Tensor, mean: Tensor, spread: Tensor, b: Tensor, r: Tensor) -> Tensor:
        return functional.hardswish((x - mean) * torch.rsqrt(spread.abs() + 1e-5) + b) + r

    return Formula(chain), tensors(shape, channels, channels, channels, shape)


def rotary(shape: Shape) -> Example:
    """Rotary position embedding of queries, halves rotated (Su et al., 2021)."""
    half = shape[-1] // 2

    def rotate(x: Tensor, angle: Tensor) -> Tensor:
        a, b = x[..., :half], x[..., half:]
        cosine, sine = torch.cos(angle), torch.sin(angle)
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)

    return Formula(rotate), (normal(*shape), 3.0 * normal(shape[-2], half, seed=1))


def focal(shape: Shape) -> Example:
    """The focal loss of each logit (Lin et al., 2017), gamma 2."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(x)
        target = (y > 0).to(x.dtype)
        right = p * target + (1 - p) * (1 - target)
        return (1 - right) ** 2 * functional.softplus(-(2 * target - 1) * x)

    return Formula(loss), tensors(shape, shape)


FORMULAS: Final[tuple[Callable[[Shape], Example], ...]] = (
    gated,
    biased_gelu,
    lstm_cell,
    normalized_swish,
    rotary,
    focal,
)

POINTWISE: Final[Mapping[str, Callable[[], Example]]] = {
    "gated": partial(gated, (128, 3072)),
    "biased_gelu": partial(biased_gelu, (197, 1536)),
    "lstm_cell": partial(lstm_cell, (64, 1024)),
    "normalized_swish": partial(normalized_swish, (1, 64, 112, 112)),
    "rotary": partial(rotary, (1, 12, 512, 64)),
    "focal": partial(focal, (16, 80, 400)),
}
