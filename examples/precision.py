"""Networks on handwritten digits in float32, in 16 bits, and in whatever a budget on accuracy admits.

Run it with ``python examples/precision.py [NETWORK ...]``; it needs scikit-learn. Each plan is compiled from the
calibration part, held to the validation part, and shown on the test part. All of them take turns when they are timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from trained import NETWORKS, Trained, load

import tpopt
from tpopt.measure import interleave

BUDGET = "drop<=0.001"
ROUNDS = 15


def compiled(trained: Trained, effort: float) -> dict[str, tpopt.CompiledModel]:
    """Plans by name: exact, with values in 16 bits, and with codes of eight bits too."""
    x = trained.parts["calibration"][0][0]
    held_out = trained.parts["validation"]
    within = {"effort": effort, "budget": BUDGET, "validation": held_out}
    return {
        "exact": tpopt.compile(trained.model, x, effort=effort),
        "16 bits": tpopt.compile(trained.model, x, **within),
        "8 bits": tpopt.compile(trained.model, x, calibration=trained.parts["calibration"], **within),
    }


@torch.no_grad()
def milliseconds(calls: dict[str, Callable[..., object]], x: torch.Tensor) -> dict[str, float]:
    """Medians of interleaved rounds."""
    timings = interleave({name: lambda call=call: call(x) for name, call in calls.items()}, rounds=ROUNDS)
    return {name: 1e3 * timings.median(name) for name in calls}


def main(names: Sequence[str]) -> None:
    """Prints a table for each network."""
    for name in names or tuple(NETWORKS):
        trained = load(name)
        plans = compiled(trained, effort=60)
        times = milliseconds({"eager": trained.model, **plans}, trained.parts["test"][0][0])
        print(f"{name}: 60 images, {torch.get_num_threads()} threads, {BUDGET} on 300 images")
        for plan, call in {"eager": trained.model, **plans}.items():
            accuracy = trained.accuracy(call, "test")
            tried = len(call.report.pareto) if isinstance(call, tpopt.CompiledModel) else 0
            print(
                f"  {plan:8} {times[plan]:7.2f} ms   test accuracy {accuracy:.4f}"
                + (f"   plans {tried}" if tried else "")
            )


if __name__ == "__main__":
    main(sys.argv[1:])
