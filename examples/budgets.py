"""Nets on handwritten digits in float32, in 16 bits, and in whatever a budget on accuracy admits.

    python examples/budgets.py [NET ...]

The nets are those of ``digits.py``, wider. A plan is made from calibration data, held to the budget on other samples,
and shown on samples that neither of the two has: 180 of each. All plans take turns when they are timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import digits
import torch
from torch import Tensor, nn

import tpopt
from tpopt.measure import interleave

NETS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: digits.Perceptron((64, 2048, 2048, 10)),
    "convolution": lambda: digits.Convolutional(64),
    "attention": lambda: digits.Attention(256, 4, 3),
}
EPOCHS = 8
BATCH, BATCHES = 60, 3
BUDGET = "drop<=0.001"
EFFORT_SECONDS, ROUNDS = 90, 15
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Trained:
    """A net, and images and classes that it was not trained on (``calibration`` it was)."""

    model: nn.Module
    calibration: Batches
    validation: Batches
    test: Batches

    @property
    def example(self) -> Tensor:
        """One batch of images."""
        return self.calibration[0][0]


def load(name: str) -> Trained:
    """Trains a net of :data:`NETS`: some seconds to a minute."""
    train, other = digits.folds()[0]
    images, classes = digits.digits()
    size = BATCH * BATCHES

    def batches(rows: Tensor) -> Batches:
        return [(images[own], classes[own]) for own in rows[:size].split(BATCH)]

    model = digits.trained(NETS[name], train, EPOCHS)
    return Trained(model, batches(train), batches(other), batches(other[-size:]))


def accuracy(model: Callable[[Tensor], Tensor], batches: Batches) -> float:
    """The share of images whose class is the largest output."""
    with torch.no_grad():
        return float(torch.cat([model(x).argmax(1) == y for x, y in batches]).double().mean())


def within(trained: Trained, *, calibrated: bool) -> tpopt.CompiledModel:
    """A plan within the budget: values in 16 bits, and in 8 as well where it is ``calibrated``."""
    calibration = trained.calibration if calibrated else ()
    return tpopt.compile(
        trained.model, trained.example, effort=EFFORT_SECONDS, budget=BUDGET,
        calibration=calibration, validation=trained.validation,
    )  # fmt: skip


@torch.no_grad()
def main(names: Sequence[str]) -> None:
    """Prints a row for each plan of each net."""
    print(f"{BATCH} images, {torch.get_num_threads()} threads, {BUDGET}, medians of {ROUNDS} rounds")
    print(f"{'net':<12} {'plan':<8} {'ms':>7} {'eager / plan':>20} {'test accuracy':>14} {'plans tried':>12}")
    for name in names or tuple(NETS):
        trained = load(name)
        plans: dict[str, Callable[[Tensor], Tensor]] = {
            "eager": trained.model,
            "exact": tpopt.compile(trained.model, trained.example, effort=EFFORT_SECONDS),
            "16 bits": within(trained, calibrated=False),
            "8 bits": within(trained, calibrated=True),
        }
        calls = {plan: partial(call, trained.example) for plan, call in plans.items()}
        timings = interleave(calls, rounds=ROUNDS)
        for plan, call in plans.items():
            tried = len(call.report.pareto) if isinstance(call, tpopt.CompiledModel) else 0
            print(
                f"{name:<12} {plan:<8} {1e3 * timings.median(plan):7.2f} {timings.ratio('eager', plan)!s:>20} "
                f"{accuracy(call, trained.test):14.2%} {tried or '':>12}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
