"""Small models that are compiled end to end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """A ResNet's stem, one block and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.second(torch.relu(self.first(x))) + x)
        return self.head(x.mean((2, 3)))


class Perceptron(nn.Module):
    """Two layers and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(x)))


class Block(nn.Module):
    """A transformer block with causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        parts = self.mix(self.before(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, t, -1))
        return x + self.down(nn.functional.gelu(self.up(self.after(x)), approximate="tanh"))


class Transformer(nn.Module):
    """A small GPT."""

    def __init__(self, words: int = 31, width: int = 16, length: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(Block(width, 2), Block(width, 2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.words(tokens) + self.places(places))))


class Cache(nn.Module):
    """One decoding step: writes a row of a buffer, reads all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.register_buffer("rows", torch.zeros(16, 8))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        self.rows.index_copy_(0, at, self.project(x))
        self.steps.add_(1)
        return torch.softmax(x @ self.rows.t(), -1) @ self.rows


class Nested(nn.Module):
    """Takes and yields containers."""

    def forward(self, pair: tuple[Tensor, Tensor], *, options: dict[str, Any], extra: Tensor | None = None) -> Any:
        total = pair[0] * options["scale"] + pair[1]
        if extra is not None:
            total = total + extra
        return {"sum": total, "parts": [pair[0] - 1, (pair[1], options["name"])], "count": total.shape[0], "none": None}


class Controlled(nn.Module):
    """What export refuses: a branch on data."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1
