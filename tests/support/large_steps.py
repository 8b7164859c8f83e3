"""Training steps of full size: ResNet-50, BERT-base, GPT-2 small and a U-Net, in plain PyTorch with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.training import Case, token_loss

TOKENS: Final = (4, 256)
"""Sequences and their length."""


class Bottleneck(nn.Module):
    def __init__(self, wide_in: int, width: int, stride: int) -> None:
        super().__init__()
        wide = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(wide_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or wide_in != wide:
            self.shortcut = nn.Sequential(nn.Conv2d(wide_in, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    wide = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(depth):
            layers.append(Bottleneck(wide, width, stride if k == 0 else 1))
            wide = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 1000))


class TransformerBlock(nn.Module):
    """Attention and a perceptron; the norm before them (GPT-2) or after them (BERT)."""

    def __init__(self, *, causal: bool, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.causal, self.heads = causal, heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.causal:
            x = x + self.attention(self.norm1(x))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Language(nn.Module):
    """Tokens to logits, with the weights of the embedding in the head."""

    def __init__(self, vocabulary: int, *, causal: bool, width: int = 768, depth: int = 12) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(TOKENS[1], width)
        self.blocks = nn.Sequential(*(TransformerBlock(causal=causal) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


class UNet(nn.Module):
    """Four halvings from 64 channels, and back up beside what was kept (Ronneberger et al., 2015)."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(self._pair(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.up = nn.ModuleList(self._pair(2 * w, w) for w in widths[-2::-1])
        self.head = nn.Conv2d(64, classes, 1)

    @staticmethod
    def _pair(a: int, b: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for k, pair in enumerate(self.down):
            x = pair(F.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for grow, pair, beside in zip(self.grow, self.up, kept[-2::-1], strict=True):
            x = pair(torch.cat([beside, grow(x)], dim=1))
        return self.head(x)


def _images(model: nn.Module) -> Case:
    return model, F.cross_entropy, (torch.randn(16, 3, 224, 224), torch.randint(1000, (16,)))


def _words(vocabulary: int, *, causal: bool) -> Case:
    words, targets = (torch.randint(vocabulary, TOKENS) for _ in range(2))
    return Language(vocabulary, causal=causal), token_loss, (words, targets)


LARGE_STEPS: Final[Mapping[str, Callable[[], Case]]] = {
    "resnet50": lambda: _images(resnet50()),
    "bert_base": lambda: _words(30_522, causal=False),
    "gpt2_small": lambda: _words(50_257, causal=True),
    "unet": lambda: (UNet(), F.cross_entropy, (torch.randn(2, 3, 256, 256), torch.randint(2, (2, 256, 256)))),
}
