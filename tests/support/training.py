"""Models, losses and batches to compile training steps of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Case = tuple[nn.Module, Callable[..., torch.Tensor], Any]


class Block(nn.Module):
    """A transformer block with dropout; ``chunk`` makes views, ``layer_norm`` several results."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        split = (t.view(batch, length, 4, width // 4).transpose(1, 2) for t in self.qkv(self.first(x)).chunk(3, -1))
        q, k, v = split
        attended = torch.softmax(q @ k.transpose(-1, -2) / (width // 4) ** 0.5, -1) @ v
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(batch, length, width)))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Language(nn.Module):
    """An embedding, blocks, and a head that is the embedding again."""

    def __init__(self, blocks: int, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in range(blocks)))
        self.head = nn.Linear(width, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(tokens)))


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def mlp() -> Case:
    layers = [layer for _ in range(6) for layer in (nn.Linear(32, 32), nn.Tanh())]
    return nn.Sequential(*layers), F.mse_loss, (torch.randn(64, 32), torch.randn(64, 32))


def convolutions() -> Case:
    """Batch norms whose statistics change once a step, and activations in place."""

    def stage(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]

    body = [*stage(3, 8), *stage(8, 8), nn.MaxPool2d(2), *stage(8, 8), nn.Dropout(0.2), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(8 * 36, 10))
    return model, F.cross_entropy, (torch.randn(4, 3, 12, 12), torch.randint(10, (4,)))


def language() -> Case:
    tokens = torch.randint(50, (2, 32))
    return Language(4), token_loss, (tokens, tokens.roll(1, 1))


CASES: dict[str, Callable[[], Case]] = {"mlp": mlp, "convolutions": convolutions, "language": language}
