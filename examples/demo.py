"""Optimizes a ResNet-18, and times it against the model it came from.

Run it with ``make demo``. Both callables take turns, so that whatever else the machine does falls on both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from zoo import load

import tpopt

ROUNDS = 15


def milliseconds(call: Callable[[], object]) -> float:
    """Returns the wall-clock time of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


@torch.no_grad()
def main() -> None:
    """Compiles, compares the numbers, compares the times, and prints the report."""
    model, inputs = load("resnet18")
    fast = tpopt.compile(model, inputs)

    expected, actual = model(*inputs), fast(*inputs)
    error = float((actual - expected).norm() / expected.norm())

    rounds = [(milliseconds(lambda: model(*inputs)), milliseconds(lambda: fast(*inputs))) for _ in range(ROUNDS)]
    eager, compiled = (statistics.median(column) for column in zip(*rounds, strict=True))

    print(f"ResNet-18, 1x3x224x224, {torch.get_num_threads()} threads, median of {ROUNDS} alternating rounds")
    print(f"  eager           {eager:8.2f} ms")
    print(f"  tpopt           {compiled:8.2f} ms   {eager / compiled:.2f} times as fast")
    print(f"  difference      {error:8.1e}      relative L2, against eager")
    print()
    print(fast.report)


if __name__ == "__main__":
    main()
