"""Small nets trained on scikit-learn's handwritten digits in seconds: what sensitivities and quantizers are shown on.

    python examples/digits.py

1,797 images of 8 x 8 pixels in ten classes. The loss has smoothed labels, so that it has a minimum at finite weights:
there the gradient is nearly 0 and the Hessian is that of real data, which is what second-order theory assumes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional as f

from tpopt.passes.precision.equalisation import divide_outputs, multiply_inputs

SMOOTHING = 0.1
"""Share of a label that goes to all classes evenly (Szegedy et al., 2016)."""
EPOCHS = 60
FOLDS = 5


class Perceptron(nn.Sequential):
    """Six linear layers with ReLU between them."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 96, 96, 64, 64, 10)) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        super().__init__(*layers[:-1])


class Convolutional(nn.Sequential):
    """Six convolutions, which halve the image twice, and two linear layers; ``width`` channels to begin with."""

    def __init__(self, width: int = 8) -> None:
        layers: list[nn.Module] = []
        channels, last = (1, width, width, 2 * width, 2 * width, 4 * width, 4 * width), 4 * width
        for (inputs, outputs), stride in zip(pairwise(channels), (1, 1, 2, 1, 2, 1), strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, last), nn.ReLU(), nn.Linear(last, 10)]
        super().__init__(*layers, *head)


class Block(nn.Module):
    """Self-attention and two linear layers with a ReLU, each after a normalization and beside an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.before(x)
        parts = (p(normal).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.query, self.key, self.value))
        mixed = f.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.contract(torch.relu(self.expand(self.between(x))))


class Attention(nn.Module):
    """Two blocks of attention over the 16 patches of 2 x 2 pixels: fourteen weight matrices."""

    def __init__(self, width: int = 32, heads: int = 2, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.place = nn.Parameter(0.1 * torch.randn(16, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = f.unfold(x, 2, stride=2).transpose(1, 2)
        return self.head(self.norm(self.blocks(self.embed(patches) + self.place)).mean(1))


NETS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": Perceptron,
    "convolution": Convolutional,
    "attention": Attention,
}
HIDDEN = {
    "perceptron": (("1", "3"), ("3", "5"), ("5", "7"), ("7", "9"), ("9", "11")),
    "convolution": (("0", "2"), ("2", "4"), ("4", "6"), ("6", "8"), ("8", "10"), ("10", "14"), ("14", "16")),
    "attention": (("blocks.0.expand", "blocks.0.contract"), ("blocks.1.expand", "blocks.1.contract")),
}
"""Pairs of layers with a ReLU, and at most a pooling, between them."""


def digits() -> tuple[Tensor, Tensor]:
    """Images ``[1797, 1, 8, 8]`` in float32 from 0 to 1, and classes ``[1797]``."""
    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32) / 16)[:, None]
    return images, torch.from_numpy(data.target.astype(np.int64))


def folds(count: int = FOLDS, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Numbers of the samples to train on and of those to test on; every sample is tested in one fold."""
    images, classes = digits()
    split = StratifiedKFold(count, shuffle=True, random_state=seed).split(images, classes)
    return [(torch.from_numpy(train), torch.from_numpy(test)) for train, test in split]


def loss(outputs: Tensor, classes: Tensor) -> Tensor:
    """What the nets are trained on: cross entropy with smoothed labels, the mean over samples, in nats."""
    return f.cross_entropy(outputs, classes, label_smoothing=SMOOTHING)


def trained(net: Callable[[], nn.Module], rows: Tensor, epochs: int = EPOCHS, seed: int = 0) -> nn.Module:
    """A net trained on these samples, in eval mode; same seed, same weights.

    Adam with a learning rate that falls to 0. An ``epochs`` of 1 or 2 makes an under-trained control, whose gradient is
    not 0. The caller's random state stays as it was.
    """
    images, classes = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = net()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            for batch in rows[torch.randperm(len(rows))].split(64):
                optimizer.zero_grad()
                loss(model(images[batch]), classes[batch]).backward()
                optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(requires_grad=False)


def with_outliers(name: str, model: nn.Module, share: float = 0.06, seed: int = 0) -> nn.Module:
    """A copy that computes the same with a few hidden channels 10 to 60 times as large.

    The weights before each ReLU are multiplied and those after it divided, for ``share`` of the channels (at least
    one) of every pair in :data:`HIDDEN`.
    """
    changed = copy.deepcopy(model)
    rng = np.random.default_rng(seed)
    for first, second in HIDDEN[name]:
        one, other = changed.get_submodule(first), changed.get_submodule(second)
        channels = len(one.weight)
        scales = np.ones(channels)
        picked = rng.choice(channels, max(1, round(share * channels)), replace=False)
        scales[picked] = 1 / rng.uniform(10, 60, len(picked))
        rescale(one, other, scales)
    return changed


def rescale(first: nn.Module, second: nn.Module, scales: np.ndarray) -> None:
    """Divides the outputs of a layer and multiplies the inputs of the next, in place."""
    groups = getattr(second, "groups", 1)
    for parameter, value in (
        (first.weight, divide_outputs(first.weight, scales)),
        (first.bias, divide_outputs(first.bias, scales)),
        (second.weight, multiply_inputs(second.weight, scales, groups)),
    ):
        parameter.data.copy_(torch.from_numpy(value))


def accuracy(model: nn.Module, rows: Tensor) -> float:
    """The share of these samples whose class is the largest output."""
    images, classes = digits()
    return float((model(images[rows]).argmax(1) == classes[rows]).double().mean())


def main() -> None:
    """Trains every net on one fold and prints what it reaches."""
    train, test = folds()[0]
    images, classes = digits()
    print(f"{'net':<12} {'weights':>8} {'seconds':>8} {'train loss':>11} {'test loss':>10} {'test accuracy':>14}")
    for name, net in NETS.items():
        start = time.perf_counter()
        model = trained(net, train)
        seconds, size = time.perf_counter() - start, sum(p.numel() for p in model.parameters())
        losses = [float(loss(model(images[rows]), classes[rows])) for rows in (train, test)]
        print(f"{name:<12} {size:8} {seconds:8.1f} {losses[0]:11.4f} {losses[1]:10.4f} {accuracy(model, test):14.2%}")


if __name__ == "__main__":
    main()
