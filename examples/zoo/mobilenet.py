"""MobileNet-V2 (Sandler et al., 2018): depthwise convolutions between narrow layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.seeding import Example, he_normal, seeded, settle

STAGES = (
    # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def conv_bn_relu6(channels: int, out_channels: int, k: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size up to its stride, a batch norm, and a clamp to [0, 6]."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expands, filters each channel by itself, projects; with a shortcut where the shapes agree."""

    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        expand = [conv_bn_relu6(channels, hidden, 1)] if expansion != 1 else []
        self.body = nn.Sequential(
            *expand,
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class MobileNetV2(nn.Module):
    """Images N×3×H×W to logits N×1000."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn_relu6(3, 32, 3, stride=2)]
        channels = 32
        for expansion, out_channels, blocks, first_stride in STAGES:
            for i in range(blocks):
                layers.append(InvertedResidual(channels, out_channels, first_stride if i == 0 else 1, expansion))
                channels = out_channels
        self.features = nn.Sequential(*layers, conv_bn_relu6(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2() -> Example:
    """MobileNet-V2 on one image of 160 by 160."""
    with seeded(160):
        model = MobileNetV2()
        he_normal(model)
        return settle(model), (torch.randn(1, 3, 160, 160),)
