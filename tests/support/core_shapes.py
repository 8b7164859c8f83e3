"""What core shapes are measured on: tensors and budgets, and the search that fits a model at each step, in tensorly.

Source: Ghadiri, Fahrbach, Fu, Mirrokni, "Approximately Optimal Core Shapes for Tensor Decompositions", ICML 2023, and
its published program, for the two synthetic tensors, their budgets, and RRE-greedy with at most 20 iterations a fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tpopt.passes.factorize.core_shapes import parameters

Shape = tuple[int, ...]
BUDGETS = tuple(range(1_000, 11_000, 1_000))


def random_tucker() -> np.ndarray:
    from tensorly.random import random_tucker

    return np.asarray(random_tucker((100, 100, 100), (16, 32, 64), full=True, random_state=1234))


def random() -> np.ndarray:
    return np.random.default_rng(0).random((100, 100, 100))


def photograph(name: str) -> np.ndarray:
    """A sample photograph of scikit-learn, 427 by 640 by 3, from 0 to 1."""
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image(name), dtype=np.float64) / 255


def trained() -> list[np.ndarray]:
    """The two wider convolutions of a small net that was trained on scikit-learn's digits, to over 97 %."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(6):
        for some in torch.randperm(1500).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[some]), y[some]).backward()
            optimizer.step()
    with torch.no_grad():
        assert (net(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.9
    return [net[at].weight.detach().double().numpy() for at in (2, 5)]


def tensors() -> dict[str, np.ndarray]:
    """The tensors by name, none with more than 10^6 elements."""
    first, second = trained()
    return {
        "random Tucker 100^3": random_tucker(),
        "random 100^3": random(),
        "china.jpg": photograph("china.jpg"),
        "flower.jpg": photograph("flower.jpg"),
        "trained 64x32x3x3": first,
        "trained 128x64x3x3": second,
    }


@dataclass
class ErrorGreedy:
    """RRE-greedy in tensorly, with every fit made and counted once: all budgets together walk one tree of steps.

    Attributes:
        tensor: what is decomposed.
        init: tensorly's start of each fit, ``"svd"`` (its own default) or ``"random"`` (the paper's).
        tolerance: a fit stops where its error falls by less.
        fits: relative squared error, and CPU seconds, of each shape that was fitted.
    """

    tensor: np.ndarray
    init: str = "svd"
    tolerance: float = 1e-5
    fits: dict[Shape, tuple[float, float]] = field(default_factory=dict)

    def error(self, core: Shape) -> float:
        from tensorly.decomposition import tucker

        if core not in self.fits:
            start = time.process_time()
            found, _ = tucker(
                self.tensor, rank=list(core), n_iter_max=20, init=self.init, tol=self.tolerance, random_state=0
            )
            error = 1 - float(np.square(found).sum() / np.square(self.tensor).sum())
            self.fits[core] = error, time.process_time() - start
        return self.fits[core][0]

    def run(self, budget: int) -> tuple[Shape, float]:
        """The shape it ends at, and the CPU seconds of the fits on its way."""
        core, seconds, counted = (1,) * self.tensor.ndim, 0.0, set()
        while steps := list(self._steps(core, budget)):
            for step in steps:
                self.error(step)
                seconds += 0.0 if step in counted else self.fits[step][1]
                counted.add(step)
            core = min(steps, key=self.error)
        return core, seconds

    def _steps(self, core: Shape, budget: int) -> Iterator[Shape]:
        for n in range(len(core)):
            more = tuple(r + (m == n) for m, r in enumerate(core))
            if more[n] <= self.tensor.shape[n] and parameters(self.tensor.shape, more) <= budget:
                yield more
