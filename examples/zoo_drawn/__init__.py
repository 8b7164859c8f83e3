"""Models of the zoo's kinds with other widths, sizes, kernels and dilations, drawn from seeds: fifty of them.

``tpopt bench --suite zoo-drawn --models 'encoder_*'`` runs those of one kind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from zoo.bert import BertLayer
from zoo.fno import FNO2d
from zoo.fsrcnn import FSRCNN
from zoo.gcn import GlobalConvolutions
from zoo.gpt2 import Block
from zoo.longformer import LongformerLayer
from zoo.mace import SymmetricContraction
from zoo.mobilenet import InvertedResidual, conv_bn_relu6
from zoo.resnet import BasicBlock
from zoo.seeding import Example, he_normal, seeded, settle
from zoo.vit import VisionTransformer

MODELS: Final = 50


class Decoder(nn.Module):
    """Hidden states N×T×hidden through blocks of causal attention."""

    def __init__(self, hidden: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x, _ = block(x, None)
        return x


def encoder(draw: random.Random) -> Example:
    """Layers of a text encoder."""
    head, heads = draw.choice((32, 48, 64)), draw.randint(4, 12)
    layers = (BertLayer(head * heads, heads, draw.choice((2, 3, 4)) * head * heads) for _ in range(draw.randint(1, 3)))
    model = nn.Sequential(*layers)
    return settle(model), (torch.randn(draw.choice((1, 1, 2)), draw.randint(40, 320), head * heads),)


def decoder(draw: random.Random) -> Example:
    """Blocks of a language model that reads a prompt."""
    head, heads = draw.choice((32, 64)), draw.randint(4, 12)
    model = Decoder(head * heads, heads, draw.randint(1, 3))
    return settle(model), (torch.randn(1, draw.randint(24, 256), head * heads),)


def vision_transformer(draw: random.Random) -> Example:
    """Blocks of a vision transformer, from its patches on."""
    heads, patch = draw.randint(3, 8), draw.choice((8, 14, 16))
    size = patch * draw.randint(8, 16)
    model = VisionTransformer(size, patch, heads * draw.choice((32, 64)), heads, draw.randint(1, 3), classes=100)
    return settle(model), (torch.randn(1, 3, size, size),)


def window_attention(draw: random.Random) -> Example:
    """Layers with attention in windows, perhaps dilated."""
    head, heads = draw.choice((32, 64)), draw.randint(2, 6)
    window, dilation = draw.choice((16, 24, 32, 48)), draw.choice((1, 2, 3))
    model = LongformerLayer(head * heads, heads, 2 * head * heads, window, dilation)
    return settle(model), (torch.randn(1, draw.randint(200, 700), head * heads),)


def depthwise(draw: random.Random) -> Example:
    """Inverted residuals after a first layer with a stride."""
    channels, layers = 8 * draw.randint(2, 4), list[nn.Module]()
    layers.append(conv_bn_relu6(3, channels, 3, stride=2))
    for _ in range(draw.randint(4, 9)):
        wider, stride = channels + 8 * draw.randint(0, 3), draw.choice((1, 1, 2))
        layers.append(InvertedResidual(channels, wider, stride, draw.choice((2, 4, 6))))
        channels = wider
    model = nn.Sequential(*layers)
    he_normal(model)
    return settle(model), (torch.randn(draw.choice((1, 1, 4)), 3, *[draw.randint(96, 224)] * 2),)


def residual(draw: random.Random) -> Example:
    """Residual blocks of plain convolutions."""
    widths = [16 * draw.randint(1, 6)]
    widths += [widths[0] * draw.choice((1, 2, 3)) for _ in range(draw.randint(2, 4))]
    layers = [nn.Conv2d(3, widths[0], draw.choice((3, 5, 7)), stride=2, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, *(BasicBlock(a, b, draw.choice((1, 2))) for a, b in pairwise(widths)))
    he_normal(model)
    return settle(model), (torch.randn(draw.choice((1, 1, 2)), 3, *[draw.randint(64, 200)] * 2),)


def dilated(draw: random.Random) -> Example:
    """Plain convolutions, then dilated ones."""
    widths, layers = [3, *(16 * draw.randint(1, 12) for _ in range(draw.randint(3, 6)))], list[nn.Module]()
    for n, (a, b) in enumerate(pairwise(widths)):
        step = 1 if n < 2 else draw.choice((1, 2, 3, 4))
        layers += [nn.Conv2d(a, b, 3, padding=step, dilation=step), nn.ReLU()]
    model = nn.Sequential(*layers)
    he_normal(model)
    return settle(model), (torch.randn(1, 3, *[draw.randint(20, 72)] * 2),)


def generator(draw: random.Random) -> Example:
    """Transposed convolutions from a latent vector to images."""
    widths, layers = [64, *(32 * draw.randint(1, 10) for _ in range(draw.randint(2, 4)))], list[nn.Module]()
    for n, (a, b) in enumerate(pairwise(widths)):
        kernel, padding = draw.choice(((4, 1), (2, 0), (6, 2))) if n else (4, 0)
        layers += [nn.ConvTranspose2d(a, b, kernel, 2 if n else 1, padding, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    model = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], draw.choice((1, 3)), 4, 2, 1), nn.Tanh())
    return settle(model), (torch.randn(draw.choice((1, 4, 16)), 64, 1, 1),)


def super_resolution(draw: random.Random) -> Example:
    """Super-resolution by two to four."""
    model = FSRCNN(draw.choice((2, 3, 4)), 8 * draw.randint(3, 8), draw.randint(8, 20), draw.randint(2, 5))
    return settle(model), (torch.rand(1, 1, draw.randint(64, 200), draw.randint(64, 200)),)


def large_kernels(draw: random.Random) -> Example:
    """Pairs of one-dimensional convolutions at one or two levels."""
    levels = [(64 * draw.randint(1, 8), draw.randint(10, 48)) for _ in range(draw.randint(1, 2))]
    model = GlobalConvolutions(tuple(c for c, _ in levels), draw.randint(8, 40), draw.choice((5, 7, 9, 11)))
    return settle(model), tuple(torch.randn(1, c, n, n) for c, n in levels)


def neural_operator(draw: random.Random) -> Example:
    """Fourier layers on a grid of even sides."""
    model = FNO2d(draw.randint(1, 4), 8 * draw.randint(2, 6), draw.randint(4, 14), draw.randint(1, 4))
    he_normal(model)
    batch, size = draw.choice((1, 2, 4)), 2 * draw.randint(20, 48)
    return settle(model), (torch.randn(batch, model.lift.in_channels, size, size),)


def atoms(draw: random.Random) -> Example:
    """Symmetric contractions of atoms' features."""
    components, elements, count = draw.choice((4, 9)), draw.randint(3, 20), draw.randint(16, 600)
    model = SymmetricContraction(8 * draw.randint(2, 12), components, draw.randint(3, 10), elements)
    kinds = nn.functional.one_hot(torch.randint(elements, (count,)), elements).float()
    return settle(model), (torch.randn(count, model.w1.shape[-1], components), kinds)


KINDS: Final = (
    encoder,
    decoder,
    vision_transformer,
    window_attention,
    depthwise,
    residual,
    dilated,
    generator,
    super_resolution,
    large_kernels,
    neural_operator,
    atoms,
)


def drawn(kind: Callable[[random.Random], Example], seed: int) -> Example:
    """The model of a kind that a seed stands for, and its inputs."""
    with seeded(seed):
        return kind(random.Random(f"{kind.__name__} {seed}"))


ZOO: Final[Mapping[str, Callable[[], Example]]] = {
    f"{kind.__name__}_{seed}": partial(drawn, kind, seed)
    for seed, kind in ((n // len(KINDS), KINDS[n % len(KINDS)]) for n in range(MODELS))
}
"""Each model by name: a function that builds the module and the positional inputs of one call."""
