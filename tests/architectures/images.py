"""Convolutional networks: U-Net, depthwise with attention to channels, dense block, super resolution, 3-D, decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    hardswish,
    interpolate,
    leaky_relu,
    max_pool2d,
    normalize,
    relu,
    scaled_dot_product_attention,
    silu,
)

from architectures.seeding import Example, seeded


def conv_bn(channels: int, out_channels: int, k: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out_channels, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class UNet(nn.Module):
    """Two levels down and up again; one upsampling learns, the other interpolates."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down1, self.down2 = conv_bn(3, 8), conv_bn(8, 16), conv_bn(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge1, self.merge2 = conv_bn(32, 16), conv_bn(24, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = relu(self.enter(x))
        b = relu(self.down1(max_pool2d(a, 2)))
        c = relu(self.down2(max_pool2d(b, 2)))
        b = relu(self.merge1(torch.cat([self.up(c), b], dim=1)))
        up = interpolate(b, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.out(relu(self.merge2(torch.cat([up, a], dim=1))))


class SqueezeExcite(nn.Module):
    """Scales each channel by what a small network makes of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.nn.functional.hardsigmoid(self.excite(relu(self.squeeze(mean))))


class Depthwise(nn.Module):
    """Expansion, depthwise filter, squeeze and excitation, projection, shortcut."""

    def __init__(self, channels: int = 12, hidden: int = 32) -> None:
        super().__init__()
        self.enter = conv_bn(3, channels, stride=2)
        self.expand, self.filter = conv_bn(channels, hidden, 1), conv_bn(hidden, hidden, 5, groups=hidden)
        self.attend, self.project = SqueezeExcite(hidden), conv_bn(hidden, channels, 1)
        self.out = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = hardswish(self.enter(x))
        y = hardswish(self.filter(hardswish(self.expand(x))))
        x = x + self.project(self.attend(y))
        return self.out(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class DenseBlock(nn.Module):
    """Every layer reads all layers before it; a transition halves the result."""

    def __init__(self, channels: int = 10, growth: int = 6, layers: int = 4) -> None:
        super().__init__()
        widths = [channels + growth * i for i in range(layers)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, growth, 3, padding=1, bias=False)) for w in widths
        )
        self.transition = nn.Conv2d(channels + growth * layers, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return avg_pool2d(self.transition(x), 2)


class SuperResolution(nn.Module):
    """Convolutions at the low resolution, a pixel shuffle, and the interpolated image added."""

    def __init__(self, scale: int = 3) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, scale**2, 3, padding=1))
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.body(x)) + interpolate(x, scale_factor=float(self.scale), mode="nearest")


class Volumes(nn.Module):
    """3-D convolutions with pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8)
        self.conv2, self.norm2 = nn.Conv3d(8, 12, (3, 3, 1), stride=(1, 2, 1)), nn.BatchNorm3d(12)
        self.pool = nn.MaxPool3d(2)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(relu(self.norm1(self.conv1(x))))
        x = relu(self.norm2(self.conv2(x)))
        return self.out(x.mean((2, 3, 4)))


class Decoder(nn.Module):
    """The decoder of a variational autoencoder: a code grows to an image by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(9, 24 * 4 * 4)
        self.up1, self.norm1 = nn.ConvTranspose2d(24, 16, 3, 2, 1, output_padding=1), nn.BatchNorm2d(16)
        self.up2, self.norm2 = nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=2), nn.BatchNorm2d(8)
        self.out = nn.ConvTranspose2d(8, 3, 5, padding=2)

    def forward(self, code: Tensor) -> Tensor:
        x = self.start(code).view(-1, 24, 4, 4)
        x = leaky_relu(self.norm1(self.up1(x)), 0.2)
        x = leaky_relu(self.norm2(self.up2(x)), 0.2)
        return self.out(x).sigmoid()


class TimedBlock(nn.Module):
    """A residual block whose scale and shift come from an embedding of the time."""

    def __init__(self, inside: int, outside: int, time: int) -> None:
        super().__init__()
        self.before, self.between = nn.GroupNorm(8, inside), nn.GroupNorm(8, outside)
        self.first = nn.Conv2d(inside, outside, 3, padding=1)
        self.second = nn.Conv2d(outside, outside, 3, padding=1)
        self.time = nn.Linear(time, 2 * outside)
        self.skip = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(silu(time))[..., None, None].chunk(2, 1)
        hidden = self.between(self.first(silu(self.before(x)))) * (1 + scale) + shift
        return self.skip(x) + self.second(silu(hidden))


class PixelAttention(nn.Module):
    """Attention among pixels whose heads lie among the channels, so that queries, keys and values lie transposed."""

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.out = nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        whole = self.project(self.norm(x)).view(n, 3, self.heads, channels // self.heads, height * width)
        query, key, value = (part.transpose(-1, -2) for part in whole.unbind(1))
        mixed = scaled_dot_product_attention(query, key, value)
        return x + self.out(mixed.transpose(-1, -2).reshape(x.shape))


class Denoiser(nn.Module):
    """A step of a diffusion model: down, attention, up, all told the time."""

    def __init__(self, channels: int = 16, time: int = 32) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(-torch.arange(8) * 0.9))
        self.embed = nn.Sequential(nn.Linear(16, time), nn.SiLU(), nn.Linear(time, time))
        self.enter, self.leave = nn.Conv2d(4, channels, 3, padding=1), nn.Conv2d(channels, 4, 3, padding=1)
        self.down = nn.Conv2d(channels, channels, 3, 2, 1)
        self.left, self.middle = TimedBlock(channels, channels, time), TimedBlock(channels, 2 * channels, time)
        self.right = TimedBlock(3 * channels, channels, time)
        self.attention = PixelAttention(2 * channels)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        angles = step[:, None] * self.frequencies
        time = self.embed(torch.cat([angles.cos(), angles.sin()], -1))
        left = self.left(self.enter(x), time)
        low = self.attention(self.middle(self.down(left), time))
        return self.leave(self.right(torch.cat([interpolate(low, scale_factor=2.0), left], 1), time))


class Keypoints(nn.Module):
    """Local maxima of a score, and what describes them; most scores are zero, so that equal ones are chosen from."""

    def __init__(self, channels: int = 12, count: int = 40) -> None:
        super().__init__()
        self.count = count
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()
        )
        self.score, self.describe = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(x)
        score = self.score(features).sigmoid()
        score = torch.where(score == max_pool2d(score, 5, 1, 2), score, 0.0)
        best, at = score.flatten(1).topk(self.count, 1)
        described = normalize(self.describe(features), dim=1).flatten(2)
        width = features.shape[3]
        found = described.gather(2, at[:, None].expand(-1, described.shape[1], -1))
        return best, found, torch.stack((at % width, at // width), -1)


@seeded
def unet() -> Example:
    return UNet(), (torch.randn(1, 3, 36, 28),)


@seeded
def depthwise() -> Example:
    return Depthwise(), (torch.randn(2, 3, 34, 34),)


@seeded
def dense_block() -> Example:
    return DenseBlock(), (torch.randn(2, 10, 14, 18),)


@seeded
def pixel_shuffle() -> Example:
    return SuperResolution(), (torch.rand(1, 1, 20, 23),)


@seeded
def conv3d() -> Example:
    return Volumes(), (torch.randn(1, 2, 10, 14, 12),)


@seeded
def vae_decoder() -> Example:
    return Decoder(), (torch.randn(3, 9),)


@seeded
def diffusion() -> Example:
    return Denoiser(), (torch.randn(2, 4, 16, 16), torch.tensor([10.0, 500.0]))


@seeded
def keypoints() -> Example:
    return Keypoints(), (torch.randn(1, 1, 48, 64),)
