"""Vision transformer (Dosovitskiy et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from zoo.seeding import Example, seeded, settle


class Block(nn.Module):
    """Self-attention and a perceptron, each with a layer norm before it and a residual around it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden, eps=1e-6)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, hidden // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden)
        x = x + self.out(y)
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Images N×3×size×size to logits N×classes."""

    def __init__(self, size: int, patch: int, hidden: int, heads: int, blocks: int, classes: int = 1000) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, hidden, patch, stride=patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, hidden))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, hidden))
        self.blocks = nn.Sequential(*(Block(hidden, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit_s16() -> Example:
    """Four blocks of ViT-S/16 (384, 6 heads) on one image of 224 by 224."""
    with seeded(384):
        return settle(VisionTransformer(224, 16, 384, 6, blocks=4)), (torch.randn(1, 3, 224, 224),)
