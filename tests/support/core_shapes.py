"""What core shapes are measured on: tensors and budgets, and the search that fits a model at each step, in tensorly.

:func:`measured` is a table: a row for each tensor and budget, with the error and the time of each way to choose.

Source: Ghadiri, Fahrbach, Fu, Mirrokni, "Approximately Optimal Core Shapes for Tensor Decompositions", ICML 2023, and
its published program, for the two synthetic tensors, their budgets, and RRE-greedy with at most 20 iterations a fit.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tpopt.passes.factorize.core_shapes import Spectra, core_shape, fitted, least_error, parameters
from tpopt.passes.factorize.packing import greedy, packing, packing_program

Shape = tuple[int, ...]
SWEEPS = 20
"""Iterations of a fit, at most: as in the paper."""
SETTINGS = {"svd": 1e-5, "random": 1e-20}
"""Starts of tensorly's fits and their tolerances: its own defaults, and the paper's."""
TENSORS = (
    "random Tucker 100^3", "random 100^3", "china.jpg", "flower.jpg", "trained 64x32x3x3", "trained 128x64x3x3",
)  # fmt: skip
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


@cache
def net() -> Any:
    """A small convolutional net, trained on scikit-learn's digits in seconds."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(6):
        for some in torch.randperm(1500).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[some]), y[some]).backward()
            optimizer.step()
    with torch.no_grad():
        assert (model(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.9
    return model


def trained() -> list[np.ndarray]:
    """The two wider convolutions of the net."""
    return [net()[at].weight.detach().double().numpy() for at in (2, 5)]


def trained_net() -> list[np.ndarray]:
    """All weights of the net as matrices ``[outputs, inputs]``."""
    return [layer.weight.detach().double().flatten(1).numpy() for layer in net() if hasattr(layer, "weight")]


@cache
def tensor(name: str) -> np.ndarray:
    """One of ``TENSORS``, none with more than 10^6 elements."""
    if name.endswith("jpg"):
        return photograph(name)
    if name.startswith("trained"):
        return trained()[name == TENSORS[-1]]
    return random_tucker() if "Tucker" in name else random()


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
                self.tensor, rank=list(core), n_iter_max=SWEEPS, init=self.init, tol=self.tolerance, random_state=0
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


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """The median of its CPU seconds."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return float(np.median(found))


def measured(name: str, init: str) -> list[dict[str, Any]]:
    """A row for each budget, on one thread: RRE and CPU seconds of ours and of RRE-greedy, RRE of the paper's others.

    A shape's RRE is that of one model fitted to it, which is not part of anyone's search except RRE-greedy's, whose own
    fits are its search and have that RRE. ``refitted`` is the RRE of RRE-greedy's shape with our fit.
    """
    found, x = [], tensor(name)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        baseline, whole = ErrorGreedy(x, init, SETTINGS[init]), Spectra.of(x)
        fit = cache(lambda core: fitted(x, core, SWEEPS, whole).error(x))
        for budget in BUDGETS:
            if budget < parameters(x.shape, [1] * x.ndim):
                continue
            theirs, spent = baseline.run(budget)
            ready = Spectra.within(x, budget)
            ours = core_shape(x, budget)
            rivals = {
                "packing": packing(whole.squares, budget),
                "program": packing_program(whole.squares, budget, 2 / 3),
                "greedy": greedy(whole.squares, budget),
                "per size": greedy(whole.squares, budget, per_parameter=True),
            } if init == "svd" else {}  # fmt: skip
            found.append({
                "tensor": name, "init": init, "budget": budget, "shape": ours, "RRE-greedy shape": theirs,
                "rre": fitted(x, ours, SWEEPS, ready).error(x), "RRE-greedy": baseline.error(theirs),
                "refitted": fit(theirs), "RRE-greedy s": spent,
                "s": seconds(lambda b=budget: core_shape(x, b)),
                "search s": seconds(lambda b=budget, known=ready: least_error(known, b)),
                **{name: fit(core) for name, core in rivals.items()},
            })  # fmt: skip
    return found
