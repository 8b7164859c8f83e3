"""Nets of ``examples/digits.py`` in fewer bits, by fake quantization, and what second derivatives say of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import digits
import numpy as np
import torch
from torch import Tensor, nn

from tpopt.passes.precision.assignment import Problem, Resource, assign, monotone
from tpopt.passes.precision.quantizers import Grid, asymmetric, least_error
from tpopt.passes.precision.ranges import min_max
from tpopt.sensitivity.first_order import fisher_traces, noise_coefficients
from tpopt.sensitivity.hessian import Estimate, gradient, traces
from tpopt.sensitivity.objective import Objective
from tpopt.sensitivity.pairs import Changes, changes

ALL = (4, 5, 6, 7, 8)
PROBES = 64
Bits = tuple[int, ...]
"""Of each layer's weight, in the order of the layers."""


def layers(model: nn.Module) -> tuple[str, ...]:
    """Names of all linear layers and convolutions, the first and the last included."""
    return tuple(n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d))


def narrow(weight: Tensor, bits: int, channels: int | None = 0) -> Tensor:
    """A weight on symmetric grids of least error, one for each output or one for all (``channels=None``)."""
    values = weight.detach().numpy()
    return torch.from_numpy(least_error(values, bits, channels=channels).quantized(values))


def with_weights(model: nn.Module, bits: Mapping[str, int], channels: int | None = 0) -> nn.Module:
    """A copy whose layers have their weights in these bits."""
    changed = copy.deepcopy(model)
    for name, width in bits.items():
        weight = changed.get_submodule(name).weight
        weight.data.copy_(narrow(weight, width, channels))
    return changed


def with_activations(model: nn.Module, data: Tensor, bits: int = 8) -> nn.Module:
    """A copy whose layers read their inputs on one grid each, over the range that they have on ``data``."""
    changed = copy.deepcopy(model)
    for name, value in layer_inputs(model, data).items():
        grid = asymmetric(min_max(value), bits)
        changed.get_submodule(name).register_forward_pre_hook(lambda _m, args, g=grid: (on_grid(g, args[0]),))
    return changed


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
    """The nearest levels."""
    return torch.from_numpy(grid.quantized(value.numpy()))


@cache
def net(name: str, fold: int = 0, epochs: int = digits.EPOCHS) -> nn.Module:
    """A net trained on a fold; not to be changed."""
    return digits.trained(digits.NETS[name], digits.folds()[fold][0], epochs)


def objective(model: nn.Module, rows: Tensor) -> Objective:
    """The loss of a net on these samples, in float64."""
    images, classes = digits.digits()
    double = copy.deepcopy(model).double()
    return Objective.of_module(double, digits.loss, [((images[rows].double(),), classes[rows])])


@dataclass(frozen=True)
class Study:
    """A net, its loss in float64 on what it was trained on and on the rest, and its weights' changes by precision.

    Attributes:
        model: the net.
        seen: the loss on its training data: what everything is measured on.
        unseen: the loss on the other data.
        names: of the layers' weights.
        candidates: the precisions.
        deltas: what each precision adds to each weight.
        found: gradient and Hessian products of them.
    """

    model: nn.Module
    seen: Objective
    unseen: Objective
    names: tuple[str, ...]
    candidates: Bits
    deltas: dict[tuple[str, str], Tensor]
    found: Changes

    @cached_property
    def base(self) -> tuple[float, float]:
        """The loss on seen and on unseen data as it is."""
        return self.seen.mean(), self.unseen.mean()

    def increase(self, bits: Sequence[int], *, unseen: bool = False) -> float:
        """How much the loss grows with the weights in these bits, measured."""
        return self.loss(bits, self.unseen if unseen else self.seen) - self.base[unseen]

    def loss(self, bits: Sequence[int], on: Objective) -> float:
        """The loss on some data with the weights in these bits."""
        chosen = {n: on.weights[n] + self.deltas[n, str(b)] for n, b in zip(self.names, bits, strict=True)}
        return on.mean({**on.weights, **chosen})

    def halves(self) -> tuple[Objective, Objective]:
        """The loss on every other sample of the unseen data, and on the rest."""
        (((images,), classes),) = self.unseen.batches
        one, other = ([((images[k::2],), classes[k::2])] for k in (0, 1))
        return replace(self.unseen, batches=one), replace(self.unseen, batches=other)

    def predicted(self, bits: Sequence[int], *, pairs: bool = True, gradient: bool = True) -> float:
        """The same on the training data, to second order."""
        chosen = dict(zip(self.names, map(str, bits), strict=True))
        return self.found.increase(chosen, pairs=pairs, gradient=gradient)

    def drawn(self, count: int, seed: int = 0) -> list[Bits]:
        """Assignments drawn evenly, each layer by itself."""
        rng = np.random.default_rng(seed)
        return [tuple(int(b) for b in rng.choice(self.candidates, len(self.names))) for _ in range(count)]

    def size(self, bits: Sequence[int]) -> int:
        """Bits of all weights."""
        return sum(self.seen.weights[n].numel() * b for n, b in zip(self.names, bits, strict=True))

    def within(self, limit: float) -> Resource:
        """A bound on the size, in bits."""
        counts = [self.seen.weights[n].numel() for n in self.names]
        return Resource("size", tuple(tuple(float(n * b) for b in self.candidates) for n in counts), limit)

    def chosen(self, limit: float) -> Bits:
        """The assignment of least predicted loss, pairs included, within a size in bits."""
        problem = self.found.problem(self.names, list(map(str, self.candidates)), [self.within(limit)])
        return self._bits(assign(problem).choices)

    def by_score(self, score: Mapping[tuple[str, int], float], limit: float) -> Bits:
        """The assignment with the least sum of scores within a size in bits."""
        return self._bits(assign(self._problem(score, limit)).choices)

    def reversed(self, score: Mapping[tuple[str, int], float], order: Sequence[float], limit: float) -> Bits:
        """The best by that score where a more sensitive layer never gets more bits."""
        return self._bits(monotone(self._problem(score, limit), [-x for x in order]).choices)

    def _problem(self, score: Mapping[tuple[str, int], float], limit: float) -> Problem:
        return Problem(tuple(tuple(score[n, b] for b in self.candidates) for n in self.names), (self.within(limit),))

    def _bits(self, choices: Sequence[int]) -> Bits:
        return tuple(self.candidates[c] for c in choices)


@cache
def study(
    name: str,
    fold: int = 0,
    candidates: Bits = ALL,
    *,
    epochs: int = digits.EPOCHS,
    outliers: bool = False,
) -> Study:
    """A net of one fold, trained for ``epochs``, with or without planted outlier channels."""
    model = net(name, fold, epochs)
    if outliers:
        model = digits.with_outliers(name, model)
    seen, unseen = (objective(model, rows) for rows in digits.folds()[fold])
    names = tuple(f"{n}.weight" for n in layers(model))
    deltas = {(n, str(b)): narrow(seen.weights[n], b) - seen.weights[n] for n in names for b in candidates}
    return Study(model, seen, unseen, names, candidates, deltas, changes(seen, deltas))


def slope(s: Study) -> float:
    """The norm of the gradient."""
    return float(sum(g.square().sum() for g in gradient(s.seen).values())) ** 0.5


@cache
def curvature(name: str, *, outliers: bool = False) -> dict[str, Estimate]:
    """Hessian traces by weight."""
    return traces(study(name, outliers=outliers).seen, PROBES)


@cache
def metrics(name: str, *, outliers: bool = False) -> dict[str, dict[tuple[str, int], float]]:
    """Predicted increase of the loss by layer and bits under five metrics that add up over layers."""
    s = study(name, outliers=outliers)
    weights, keys = s.seen.weights, [(n, b) for n in s.names for b in s.candidates]
    square = {(n, b): float(s.deltas[n, str(b)].square().sum()) for n, b in keys}
    fisher, noise = fisher_traces(s.seen), noise_coefficients(s.seen, s.names)
    trace = curvature(name, outliers=outliers)
    return {
        "squared change": square,
        "Fisher trace": {(n, b): fisher[n] / weights[n].numel() * square[n, b] / 2 for n, b in keys},
        "fit to noise": {(n, b): noise[n] / float(weights[n].square().sum()) * square[n, b] for n, b in keys},
        "Hessian trace": {(n, b): trace[n].mean / weights[n].numel() * square[n, b] / 2 for n, b in keys},
        "d.H.d": {(n, b): s.found.increase({n: str(b)}, gradient=False) for n, b in keys},
    }
