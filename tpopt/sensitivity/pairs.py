"""What choices for several layers do to the loss together: gradient, and all pairs, exact to second order.

For a change ``d`` of some weights the loss moves by ``g.d + d.H.d / 2``. With one Hessian-vector product for each
(layer, candidate), every pair ``d_i.H.d_j`` is an inner product: the inter-layer term that a sum of single-layer
sensitivities leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tpopt.errors import UnknownName, UsageError
from tpopt.passes.precision.assignment import Problem, Resource
from tpopt.sensitivity.hessian import gradient, product
from tpopt.sensitivity.objective import Objective, Weights

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Changes:
    """``first[k] = g.d_k`` and ``second[k, l] = d_k.H.d_l`` for the changes ``keys[k] = (layer, candidate)``."""

    keys: tuple[tuple[str, str], ...]
    first: Floats
    second: Floats

    def increase(self, chosen: Mapping[str, str], *, pairs: bool = True, gradient: bool = True) -> float:
        """The predicted increase of the loss for a candidate by layer; a layer that is not named does not change."""
        at = [self._place(layer, candidate) for layer, candidate in chosen.items()]
        block = self.second[np.ix_(at, at)]
        quadratic = block.sum() if pairs else np.trace(block)
        return float((self.first[at].sum() if gradient else 0.0) + quadratic / 2)

    def _place(self, layer: str, candidate: str) -> int:
        if (layer, candidate) not in self.keys:
            raise UnknownName("candidate", f"{layer}:{candidate}", (f"{a}:{b}" for a, b in self.keys))
        return self.keys.index((layer, candidate))

    def problem(self, layers: Sequence[str], candidates: Sequence[str], resources: Sequence[Resource]) -> Problem:
        """The assignment of one candidate to each layer; those that no change is known for leave the layer as it is."""
        places = {key: n for n, key in enumerate(self.keys)}

        def own(layer: str, candidate: str) -> float:
            k = places.get((layer, candidate))
            return 0.0 if k is None else float(self.first[k] + self.second[k, k] / 2)

        losses = tuple(tuple(own(layer, c) for c in candidates) for layer in layers)
        pairs = {
            (i, a, j, b): float(self.second[places[one, x], places[two, y]])
            for i, one in enumerate(layers)
            for j, two in enumerate(layers[:i])
            for a, x in enumerate(candidates)
            for b, y in enumerate(candidates)
            if (one, x) in places and (two, y) in places
        }
        return Problem(losses, tuple(resources), pairs=pairs)


def changes(objective: Objective, deltas: Mapping[tuple[str, str], torch.Tensor]) -> Changes:
    """Measures all changes: ``deltas[weight, candidate]`` is what a candidate adds to a weight.

    Raises:
        UnknownName: a weight that the objective has not; UsageError for a change of another shape.
    """
    keys = tuple(deltas)
    for (name, candidate), delta in deltas.items():
        if name not in objective.weights:
            raise UnknownName("weight", name, objective.weights)
        if delta.shape != objective.weights[name].shape:
            raise UsageError(
                f"deltas: {name}:{candidate} has shape {tuple(delta.shape)}, "
                f"the weight has {tuple(objective.weights[name].shape)}"
            )
    slope = gradient(objective)
    first = np.array([_inner(slope[name], deltas[name, c]) for name, c in keys])
    second = np.zeros((len(keys), len(keys)))
    for k, (name, c) in enumerate(keys):
        times: Weights = product(objective, {name: deltas[name, c].to(objective.weights[name])})
        second[k] = [_inner(times[other], deltas[other, d]) for other, d in keys]
    return Changes(keys, first, (second + second.T) / 2)


def _inner(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() * other.to(one).double()).sum())
