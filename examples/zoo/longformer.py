"""Longformer layers (Beltagy et al., 2020): attention within a window, some of it dilated."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from zoo.seeding import Example, seeded, settle


class WindowAttention(nn.Module):
    """Each position attends to ``window`` positions on either side, ``dilation`` apart, and to itself."""

    def __init__(self, hidden: int, heads: int, window: int, dilation: int) -> None:
        super().__init__()
        self.heads, self.window, self.dilation = heads, window, dilation
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        q, k, v = (
            project(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        scores = torch.einsum("bhnd,bhndw->bhnw", q, self.windows(k)) / math.sqrt(hidden // self.heads)

        steps = torch.arange(-self.window, self.window + 1, device=x.device) * self.dilation
        positions = torch.arange(length, device=x.device)[:, None] + steps
        scores = scores.masked_fill((positions < 0) | (positions >= length), float("-inf"))

        y = torch.einsum("bhnw,bhndw->bhnd", scores.softmax(-1), self.windows(v))
        return self.out(y.transpose(1, 2).reshape(batch, length, hidden))

    def windows(self, x: Tensor) -> Tensor:
        """Views B×H×N×D as B×H×N×D×(2·window + 1): what each position sees, zeros beyond the ends."""
        reach = self.window * self.dilation
        return pad(x, (0, 0, reach, reach)).unfold(2, 2 * reach + 1, 1)[..., :: self.dilation]


class LongformerLayer(nn.Module):
    """Window attention and a feed-forward network, each with a residual and a layer norm after it."""

    def __init__(self, hidden: int, heads: int, feed_forward: int, window: int, dilation: int) -> None:
        super().__init__()
        self.attention = WindowAttention(hidden, heads, window, dilation)
        self.norm1 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, feed_forward)
        self.down = nn.Linear(feed_forward, hidden)
        self.norm2 = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(gelu(self.up(x))))


def longformer() -> Example:
    """Two layers of width 512 with 8 heads and a one-sided window of 64, dilated by 1 and by 4, on 1024 tokens."""
    with seeded(1024):
        model = nn.Sequential(*(LongformerLayer(512, 8, 2048, window=64, dilation=d) for d in (1, 4)))
        return settle(model), (torch.randn(1, 1024, 512),)
