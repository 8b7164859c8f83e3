"""Ranks for all layers of a model under one budget: the choice with the least sum of errors, proved.

Each layer has a list of candidates, of which one is taken: the least sum of errors within a sum of sizes is a
multiple-choice knapsack. A price for size gives a lower bound and, at the price where the budget is just kept, a choice
close to it. Candidates that the bound shows to be in no better choice are struck out, which leaves a few of each of
some layers, and a constraint program decides among those.

Source: Sinha and Zoltners, "The Multiple-Choice Knapsack Problem", 1979 (relaxation and reduction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from ortools.sat.python import cp_model

from tpopt.errors import LimitExceeded, UsageError
from tpopt.passes.factorize.core_shapes import Shape, Spectra, best_shape, parameters

Floats = npt.NDArray[np.float64]
Sizes = npt.NDArray[np.int64]
Choice = tuple[int, ...]

ROUNDING: Final = 1e-9
"""Relative rounding of sums of errors that are compared."""
RESOLUTION: Final = 10**12
"""The constraint program counts errors in whole parts of the best sum so far."""


@dataclass(frozen=True)
class Candidates:
    """What one layer may become.

    Attributes:
        sizes: what each candidate costs, in whole units of the budget: parameters, multiply-adds, nanoseconds.
        errors: what it loses, as something that adds up over layers: squared errors times a layer's weight.
    """

    sizes: Sizes
    errors: Floats

    def __post_init__(self) -> None:
        good = self.sizes.ndim == 1 and self.sizes.shape == self.errors.shape and len(self.sizes)
        if not good or self.sizes.dtype != np.int64 or not np.isfinite(self.errors).all():
            raise UsageError("candidates: expected as many whole sizes as finite errors, and at least one")

    @classmethod
    def of_ranks(cls, squares: Floats, size: int, weight: float = 1.0) -> Candidates:
        """Ranks ``1, 2, ...`` of a matrix: ``size`` for each, and ``weight`` times the tail of ``squares``.

        ``squares`` are the squared singular values, falling; the last candidate has no error.
        """
        tails = np.append(np.cumsum(squares[::-1])[::-1][1:], 0.0)
        return cls(size * np.arange(1, len(squares) + 1, dtype=np.int64), weight * tails)

    @classmethod
    def of_core_shapes(cls, spectra: Spectra, count: int = 50, weight: float = 1.0) -> tuple[Candidates, list[Shape]]:
        """The best core shapes at up to ``count`` sizes from the smallest Tucker model to the tensor itself."""
        energies = spectra.energies()
        least, most = parameters(spectra.shape, [1] * len(spectra.shape)), int(np.prod(spectra.shape))
        budgets = np.unique(np.geomspace(least, max(least, most), count).astype(np.int64))
        shapes = list(dict.fromkeys(
            best_shape(spectra.shape, max(least, int(b)), lambda r: energies[tuple((r - 1).T)], energies.shape)
            for b in budgets
        ))  # fmt: skip
        errors = np.array([max(0.0, spectra.total - float(energies[tuple(k - 1 for k in r)])) for r in shapes])
        return cls(np.array([parameters(spectra.shape, r) for r in shapes]), weight * errors), shapes


@dataclass(frozen=True)
class Allocation:
    """One candidate for each layer.

    Attributes:
        choice: the number of each layer's candidate.
        size: the sum of their sizes.
        error: the sum of their errors.
        bound: no choice within the budget has a smaller sum of errors.
    """

    choice: Choice
    size: float
    error: float
    bound: float

    @property
    def gap(self) -> float:
        """How much of the error may be unnecessary, from 0 to 1."""
        return max(0.0, self.error - self.bound) / self.error if self.error > 0 else 0.0


def allocate(layers: Sequence[Candidates], budget: int, seconds: float = 10.0) -> Allocation:
    """The choice with the least sum of errors whose sum of sizes is within the budget.

    ``seconds`` bound the constraint program; where they end it, ``gap`` says what is not proved. Raises
    ``LimitExceeded`` where the smallest candidates are too large together.
    """
    least = sum(int(c.sizes.min()) for c in layers)
    if least > budget:
        raise LimitExceeded(f"budget={budget:,}: the smallest candidates of all layers have {least:,}")
    bound, price, found = _relaxed(layers, budget)
    found = filled(layers, budget, found)
    best = total_error(layers, found)
    if best > bound * (1 + ROUNDING):
        kept = [np.flatnonzero(bound + _worse(c, price) <= best * (1 + ROUNDING)) for c in layers]
        solved, proved = _program(layers, budget, kept, found, seconds)
        found = min(found, solved, key=lambda choice: total_error(layers, choice))
        best, bound = total_error(layers, found), max(bound, proved)
    return Allocation(found, total_size(layers, found), best, min(best, bound))


def total_size(layers: Sequence[Candidates], choice: Choice) -> int:
    """The sum of the sizes of a choice."""
    return sum(int(c.sizes[j]) for c, j in zip(layers, choice, strict=True))


def total_error(layers: Sequence[Candidates], choice: Choice) -> float:
    """The sum of the errors of a choice."""
    return float(sum(c.errors[j] for c, j in zip(layers, choice, strict=True)))


def filled(layers: Sequence[Candidates], budget: int, choice: Choice) -> Choice:
    """A choice improved, step by step, by the candidate that lowers the error most within the rest of the budget."""
    own, rest = list(choice), budget - total_size(layers, choice)
    while True:
        steps = [(*_step(c, j, rest), n) for n, (c, j) in enumerate(zip(layers, own, strict=True))]
        gain, more, n = max(steps, default=(0.0, 0, 0))
        if gain <= 0:
            return tuple(own)
        rest -= int(layers[n].sizes[more] - layers[n].sizes[own[n]])
        own[n] = more


def _step(candidates: Candidates, at: int, rest: int) -> tuple[float, int]:
    gains = np.where(candidates.sizes - candidates.sizes[at] <= rest, candidates.errors[at] - candidates.errors, -1.0)
    best = int(np.argmax(gains))
    return float(gains[best]), best


def _priced(layers: Sequence[Candidates], price: float) -> Choice:
    """The best candidate of each layer at a price for size; of equals the smaller."""
    return tuple(int(np.lexsort((c.sizes, c.errors + price * c.sizes))[0]) for c in layers)


def _relaxed(layers: Sequence[Candidates], budget: int) -> tuple[float, float, Choice]:
    """The best lower bound by a price for size, the price, and the choice at the least price that keeps the budget."""
    smallest = tuple(int(np.lexsort((c.errors, c.sizes))[0]) for c in layers)
    low, high, found = 0.0, 1.0, _priced(layers, 0.0)
    if total_size(layers, found) <= budget:
        return total_error(layers, found), 0.0, found
    spread = max(float(np.ptp(c.errors)) for c in layers)
    steps = min((float(d.min()) for c in layers if len(d := np.diff(np.unique(c.sizes)))), default=1.0)
    high, found = 2 * spread / steps + 1e-300, smallest
    bound, at = -np.inf, high
    for _ in range(100):
        price = (low + high) / 2
        choice = _priced(layers, price)
        size = total_size(layers, choice)
        value = total_error(layers, choice) + price * (size - budget)
        if value > bound:
            bound, at = value, price
        if size <= budget:
            high, found = price, choice
        else:
            low = price
        if high - low <= 1e-15 * high:
            break
    return bound, at, found


def _worse(candidates: Candidates, price: float) -> Floats:
    """How much more each candidate costs than the layer's best at a price."""
    costs: Floats = candidates.errors + price * candidates.sizes
    costs -= costs.min()
    return costs


def _program(
    layers: Sequence[Candidates], budget: int, kept: Sequence[npt.NDArray[np.intp]], hint: Choice, seconds: float
) -> tuple[Choice, float]:
    """The best choice of what was kept (``hint`` where none is found in time), and a bound for every choice."""
    model = cp_model.CpModel()
    unit = total_error(layers, hint) / RESOLUTION
    least = [float(c.errors[k].min()) for c, k in zip(layers, kept, strict=True)]
    taken: list[list[cp_model.IntVar]] = []
    for own, at in zip(kept, hint, strict=True):
        taken.append([model.new_bool_var("") for _ in own])
        model.add_exactly_one(taken[-1])
        for one, j in zip(taken[-1], own, strict=True):
            model.add_hint(one, int(j) == at)
    every = [
        (n, one, j)
        for n, (ones, own) in enumerate(zip(taken, kept, strict=True))
        for one, j in zip(ones, own, strict=True)
    ]
    model.add(sum(one * int(layers[n].sizes[j]) for n, one, j in every) <= budget)
    model.minimize(sum(one * round((float(layers[n].errors[j]) - least[n]) / unit) for n, one, j in every))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = seconds
    status = solver.solve(model)
    if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
        return hint, -np.inf
    choice = tuple(
        next(int(j) for one, j in zip(ones, own, strict=True) if solver.boolean_value(one))
        for ones, own in zip(taken, kept, strict=True)
    )
    # each of the counted errors is off by up to half a unit
    return choice, sum(least) + unit * (solver.best_objective_bound - len(layers) / 2)
