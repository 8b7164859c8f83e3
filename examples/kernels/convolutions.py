"""Convolutions beyond the dense 3x3: depthwise, grouped, dilated, transposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from torch import nn

from kernels.seeding import Example, normal, seeded


def convolution(
    batch: int,
    size: int,
    channels: int,
    outs: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    transposed: bool = False,
) -> Example:
    """A square convolution with bias that keeps the size up to its stride, and a ReLU."""

    def build() -> nn.Module:
        padding = dilation * (kernel - 1) // 2
        if transposed:
            layer: nn.Module = nn.ConvTranspose2d(
                channels, outs, kernel, stride, padding, stride - 1, groups, dilation=dilation
            )
        else:
            layer = nn.Conv2d(channels, outs, kernel, stride, padding, dilation, groups)
        return nn.Sequential(layer, nn.ReLU())

    return seeded(build), (normal(batch, channels, size, size),)


CONVOLUTIONS: Final[Mapping[str, Callable[[], Example]]] = {
    "depthwise_3": partial(convolution, 1, 56, 144, 144, 3, groups=144),
    "depthwise_3_strided": partial(convolution, 1, 112, 96, 96, 3, stride=2, groups=96),
    "depthwise_7": partial(convolution, 1, 28, 192, 192, 7, groups=192),
    "grouped_4": partial(convolution, 1, 56, 64, 64, 3, groups=4),
    "grouped_32": partial(convolution, 1, 28, 256, 256, 3, groups=32),
    "dilated_2": partial(convolution, 1, 28, 128, 128, 3, dilation=2),
    "dilated_4_depthwise": partial(convolution, 1, 64, 96, 96, 3, dilation=4, groups=96),
    "transposed_2": partial(convolution, 1, 28, 64, 32, 4, stride=2, transposed=True),
}
