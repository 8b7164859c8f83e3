"""What a call of a kernel costs, and what kernels and torch's operators cost in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from tpopt.backend.native.loading import as_argument, load_kernel

Kernels = Mapping[str, Path]


def seconds(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


@pytest.mark.serial
def test_a_call_costs_a_microsecond_at_most_and_less_with_converted_arguments(kernels: Kernels):
    kernel, tensors = load_kernel(kernels["serial"], "main"), [torch.ones(16) for _ in range(3)]
    arguments = [as_argument(tensor) for tensor in tensors]
    plain = statistics.median(seconds(lambda: kernel(*tensors), 20_000) for _ in range(9))
    converted = statistics.median(seconds(lambda: kernel(*arguments), 20_000) for _ in range(9))
    assert plain <= 1e-6
    assert converted < plain


@pytest.mark.serial
def test_in_turn_with_torch_it_costs_the_sum_of_both(kernels: Kernels):
    torch.set_num_threads(2)
    kernel = load_kernel(kernels["large"], "main")
    a, b, c = (torch.ones(1 << 20) for _ in range(3))  # the same memory for both: what is compared is the threads

    def both() -> None:
        kernel(a, b, c)
        torch.add(a, b, out=c)

    calls = (lambda: kernel(a, b, c), lambda: torch.add(a, b, out=c), both)
    rounds = [[seconds(call, 10) for call in calls] for _ in range(100)]
    # The quickest of many: with another program on a core, a loop waits for a thread that does not run.
    alone, torch_alone, alternating = (min(column) for column in zip(*rounds, strict=True))
    assert alternating <= 1.15 * (alone + torch_alone)
