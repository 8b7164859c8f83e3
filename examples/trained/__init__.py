"""Networks trained on scikit-learn's handwritten digits in seconds: what budgets are shown on.

``load("convolutions")`` returns a trained network in eval mode and its data, in four parts that never mix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from trained.networks import Attention, Convolutions, Perceptron

BATCH = 60
"""Rows of every batch: the parts are multiples of it."""
PARTS: Mapping[str, int] = MappingProxyType({"train": 1020, "calibration": 180, "validation": 300, "test": 240})
NETWORKS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"perceptron": Perceptron, "convolutions": Convolutions, "attention": Attention}
)
EPOCHS: Mapping[str, int] = MappingProxyType({"perceptron": 5, "convolutions": 3, "attention": 10})


@dataclass(frozen=True)
class Trained:
    """A network and its data: batches of images and labels by part."""

    model: nn.Module
    parts: Mapping[str, list[tuple[Tensor, Tensor]]]

    def accuracy(self, model: Callable[[Tensor], Tensor], part: str) -> float:
        """The share of a part's images that a callable tells."""
        with torch.no_grad():
            right = [(model(x).argmax(-1) == y).double().mean() for x, y in self.parts[part]]
        return float(torch.stack(right).mean())


def load(name: str, seed: int = 0) -> Trained:
    """Trains a network; the same numbers for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = _parts()
        model = NETWORKS[name]()
        _train(model, parts["train"], EPOCHS[name])
    return Trained(model.eval().requires_grad_(requires_grad=False), parts)


def _parts() -> dict[str, list[tuple[Tensor, Tensor]]]:
    """The images as [60, 1, 8, 8], with mean 0 and deviation 1, in random order."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8)
    x, y = (x - x.mean()) / x.std(), torch.from_numpy(labels)
    order, parts, first = torch.randperm(len(x)), {}, 0
    for name, count in PARTS.items():
        own = order[first : first + count]
        parts[name] = list(zip(x[own].split(BATCH), y[own].split(BATCH), strict=True))
        first += count
    return parts


def _train(model: nn.Module, batches: list[tuple[Tensor, Tensor]], epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
