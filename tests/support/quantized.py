"""Nets of ``examples/digits.py`` in fewer bits, by fake quantization, and what second derivatives say of them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from support.tree import ROOT
from tpopt.passes.precision.quantizers import Grid, asymmetric, least_error, symmetric
from tpopt.sensitivity.first_order import fisher_traces, noise_coefficients
from tpopt.sensitivity.hessian import Estimate, traces
from tpopt.sensitivity.objective import Objective
from tpopt.sensitivity.pairs import Changes, changes

if (folder := str(ROOT / "examples")) not in sys.path:
    sys.path.append(folder)

import digits

BITS = (4, 5, 6, 7, 8)
PROBES = 64
Bits = tuple[int, ...]
"""Bits of each layer's weight, in the order of the layers."""


def layers(model: nn.Module) -> tuple[str, ...]:
    """Names of all linear layers and convolutions, the first and the last included."""
    return tuple(n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d))


def narrow(weight: Tensor, bits: int, channels: int | None = 0) -> Tensor:
    """A weight on symmetric grids of least error, one for each output."""
    values = weight.detach().numpy()
    return torch.from_numpy(least_error(values, bits, symmetric, channels).quantized(values))


def with_weights(model: nn.Module, bits: Mapping[str, int], channels: int | None = 0) -> nn.Module:
    """A copy whose layers have their weights in these bits."""
    changed = copy.deepcopy(model)
    for name, width in bits.items():
        weight = changed.get_submodule(name).weight
        weight.data.copy_(narrow(weight, width, channels))
    return changed


def with_activations(model: nn.Module, data: Tensor, calibrate: Callable[[np.ndarray], Grid]) -> nn.Module:
    """A copy in which every layer reads its input on one grid for the whole tensor, from what ``data`` makes of it."""
    changed = copy.deepcopy(model)
    for name, grid in activation_grids(model, data, calibrate).items():
        changed.get_submodule(name).register_forward_pre_hook(lambda _m, args, g=grid: (on_grid(g, args[0]),))
    return changed


def activation_grids(model: nn.Module, data: Tensor, calibrate: Callable[[np.ndarray], Grid]) -> dict[str, Grid]:
    """The grid of each layer's input."""
    seen = layer_inputs(model, data)
    return {name: calibrate(value.numpy()) for name, value in seen.items()}


def layer_inputs(model: nn.Module, data: Tensor) -> dict[str, Tensor]:
    """What each layer reads when the model runs on ``data``."""
    seen: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(n).register_forward_pre_hook(lambda _m, args, n=n: seen.update({n: args[0]}))
        for n in layers(model)
    ]
    with torch.no_grad():
        model(data)
    for hook in hooks:
        hook.remove()
    return seen


def on_grid(grid: Grid, value: Tensor) -> Tensor:
    """The nearest levels, in torch's arithmetic (a grid for the whole tensor)."""
    steps = torch.round(value.double() / float(grid.scale.item())) + float(grid.zero.item())
    return ((steps.clamp(grid.lowest, grid.highest) - float(grid.zero.item())) * float(grid.scale.item())).to(value)


def eight_bits(values: np.ndarray) -> Grid:
    """Activations: unsigned where they are, asymmetric else, from the whole range of the calibration data."""
    from tpopt.passes.precision.ranges import min_max

    return asymmetric(min_max(values), 8)


@dataclass(frozen=True)
class Study:
    """A net, its loss on its training data in float64, and its weights' changes by precision.

    Attributes:
        model: in float64.
        objective: of the training data.
        names: of the layers.
        deltas: what each precision adds to each layer's weight.
        found: gradient and Hessian products of them.
    """

    model: nn.Module
    objective: Objective
    names: tuple[str, ...]
    deltas: dict[tuple[str, str], Tensor]
    found: Changes

    @property
    def sizes(self) -> list[int]:
        """Weights of each layer."""
        return [self.objective.weights[n].numel() for n in self.names]

    def increase(self, bits: Sequence[int]) -> float:
        """How much the loss grows with the weights in these bits, measured."""
        chosen = {n: self.objective.weights[n] + self.deltas[n, str(b)] for n, b in zip(self.names, bits, strict=True)}
        return self.objective.mean({**self.objective.weights, **chosen}) - self.objective.mean()

    def predicted(self, bits: Sequence[int], *, pairs: bool = True, gradient: bool = True) -> float:
        """The same, to second order."""
        chosen = dict(zip(self.names, map(str, bits), strict=True))
        return self.found.increase(chosen, pairs=pairs, gradient=gradient)

    def alone(self, name: str, bits: int) -> float:
        """``d.H.d / 2`` of one layer."""
        return self.found.increase({name: str(bits)}, gradient=False)

    def drawn(self, count: int, seed: int = 0) -> list[Bits]:
        """Assignments drawn evenly, each layer by itself."""
        rng = np.random.default_rng(seed)
        return [tuple(int(b) for b in rng.choice(BITS, len(self.names))) for _ in range(count)]

    def bits(self, of: Sequence[int]) -> int:
        """Size of the weights."""
        return sum(n * b for n, b in zip(self.sizes, of, strict=True))


@cache
def net(name: str, fold: int = 0, epochs: int = digits.EPOCHS) -> nn.Module:
    """A net trained on a fold; not to be changed."""
    return digits.trained(name, digits.folds()[fold][0], epochs)


def objective(model: nn.Module, rows: Tensor) -> Objective:
    """The loss of a net on these samples, in float64."""
    images, classes = digits.digits()
    double = copy.deepcopy(model).double()
    return Objective.of_module(double, digits.loss, [((images[rows].double(),), classes[rows])])


@cache
def study(name: str, epochs: int = digits.EPOCHS, outliers: bool = False) -> Study:
    """A net of the first fold, trained for ``epochs``, with or without planted outlier channels."""
    model = net(name, 0, epochs)
    if outliers:
        model = digits.with_outliers(name, model)
    o = objective(model, digits.folds()[0][0])
    names = tuple(f"{n}.weight" for n in layers(model))
    deltas = {(n, str(b)): narrow(o.weights[n], b) - o.weights[n] for n in names for b in BITS}
    return Study(model, o, names, deltas, changes(o, deltas))


@cache
def curvature(name: str, outliers: bool = False) -> dict[str, Estimate]:
    """Hessian traces by weight."""
    return traces(study(name, outliers=outliers).objective, PROBES)


def metrics(name: str, outliers: bool = False) -> dict[str, dict[tuple[str, int], float]]:
    """Predicted increase of the loss by layer and bits under five metrics that add up over layers."""
    s, o = study(name, outliers=outliers), study(name, outliers=outliers).objective
    trace, fisher, noise = curvature(name, outliers), fisher_traces(o), noise_coefficients(o, s.names)
    keys = [(n, b) for n in s.names for b in BITS]
    square = {(n, b): float(s.deltas[n, str(b)].square().sum()) for n, b in keys}
    count = {n: o.weights[n].numel() for n in s.names}
    norm = {n: float(o.weights[n].square().sum()) for n in s.names}
    return {
        "squared change": square,
        "Fisher trace": {(n, b): fisher[n] / count[n] * square[n, b] / 2 for n, b in keys},
        "fit to noise": {(n, b): noise[n] / norm[n] * square[n, b] for n, b in keys},
        "Hessian trace": {(n, b): trace[n].mean / count[n] * square[n, b] / 2 for n, b in keys},
        "d.H.d": {(n, b): s.alone(n, b) for n, b in keys},
    }
