"""Convolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, relu

from derivations.seeding import Example, draw, example


def conv_3x3(n: int = 1, channels: int = 512, features: int = 512, side: int = 7) -> Example:
    """The last 3x3 layer of a ResNet-18: GEMM and offset add."""
    return example(
        lambda x, w: conv2d(x, w, padding=1), (draw(n, channels, side, side),), w=draw(features, channels, 3, 3, seed=1)
    )


def conv_transpose_k4(n: int = 16, channels: int = 448, features: int = 256, side: int = 2) -> Example:
    """A transposed 4x4 convolution of stride 2 (InfoGAN)."""
    return example(
        lambda x, w: conv_transpose2d(x, w, stride=2, padding=1),
        (draw(n, channels, side, side),), w=draw(channels, features, 4, 4, seed=1),
    )  # fmt: skip


def conv_transpose2d_once(x: Tensor, w: Tensor) -> Tensor:
    """A transposed convolution without options."""
    return conv_transpose2d(x, w)


def conv_transpose_pixel(n: int = 1, channels: int = 100, features: int = 512) -> Example:
    """A transposed 4x4 convolution of one pixel (DCGAN): one GEMM."""
    return example(conv_transpose2d_once, (draw(n, channels, 1, 1),), w=draw(channels, features, 4, 4, seed=1))


def conv_transpose_9x9(channels: int = 56, side: int = 32) -> Example:
    """The last layer of FSRCNN: 9x9, stride 4."""
    return example(
        lambda x, w: conv_transpose2d(x, w, stride=4, padding=3, output_padding=1),
        (draw(1, channels, side, side),), w=draw(channels, 1, 9, 9, seed=1),
    )  # fmt: skip


def conv_5x5(n: int = 16, channels: int = 32, side: int = 224) -> Example:
    """A 5x5 convolution to one feature."""
    return example(
        lambda x, w: conv2d(x, w, padding=2), (draw(n, channels, side, side),), w=draw(1, channels, 5, 5, seed=1)
    )


def separable_branches(
    channels: int = 256, height: int = 56, width: int = 56, features: int = 21, k: int = 11
) -> Example:
    """A block of GCN: two branches of separable convolutions, added."""
    pad = k // 2

    def block(x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        left = conv2d(conv2d(x, a, padding=(0, pad)), b, padding=(pad, 0))
        return left + conv2d(conv2d(x, c, padding=(pad, 0)), d, padding=(0, pad))

    return example(
        block, (draw(1, channels, height, width),),
        a=draw(features, channels, 1, k, seed=1), b=draw(features, features, k, 1, seed=2),
        c=draw(features, channels, k, 1, seed=3), d=draw(features, features, 1, k, seed=4),
    )  # fmt: skip


def dilated_stack(layers: int = 6, channels: int = 512, height: int = 14, width: int = 14) -> Example:
    """3x3 convolutions of dilation 2 with ReLU between (CSRNet's back end)."""

    def stack(x: Tensor, **weights: Tensor) -> Tensor:
        for weight in weights.values():
            x = relu(conv2d(x, weight, padding=2, dilation=2))
        return x

    weights = {f"w{n}": draw(channels, channels, 3, 3, seed=n) for n in range(layers)}
    return example(stack, (torch.relu(draw(1, channels, height, width)),), **weights)
