"""A perceptron, a convolutional network and a transformer for images of 8 by 8, wide enough to be worth compiling."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Perceptron(nn.Sequential):
    """Two hidden layers of 2,048."""

    def __init__(self, width: int = 2048) -> None:
        layers = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
        super().__init__(nn.Flatten(), *layers)


class Convolutions(nn.Module):
    """Three stages of residual convolutions on images of 32 by 32."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.stages = nn.ModuleList([_Stage(width, width), _Stage(width, 2 * width), _Stage(2 * width, 4 * width)])
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(x, scale_factor=4, mode="nearest")
        x = nn.functional.max_pool2d(nn.functional.relu(self.norm(self.stem(x))), 2)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


class _Stage(nn.Module):
    """Two convolutions and a shortcut; the first halves the image where channels change."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if channels == width else 2
        self.first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.one, self.two = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(self.second(nn.functional.relu(self.one(self.first(x)))))
        return nn.functional.relu(y + self.shortcut(x))


class Attention(nn.Module):
    """A transformer over the 16 patches of 2 by 2."""

    def __init__(self, width: int = 256, heads: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(1, width, 2, 2), nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.mix(self.before(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, -1)
        x = x + self.out(y)
        return x + self.down(nn.functional.gelu(self.up(self.after(x))))
