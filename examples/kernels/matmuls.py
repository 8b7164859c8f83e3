"""Linear layers, from one row to many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from torch import nn

from kernels.seeding import Example, normal, seeded


def linear(m: int, k: int, n: int) -> Example:
    """A linear layer with bias on ``m`` rows of ``k`` features."""
    return seeded(lambda: nn.Linear(k, n)), (normal(m, k),)


MATMULS: Final[Mapping[str, Callable[[], Example]]] = {
    f"linear_{m}x{k}x{n}": partial(linear, m, k, n)
    for m, k, n in ((512, 512, 512), (128, 768, 3072), (1024, 1024, 1024), (1, 1024, 1024), (8, 1024, 1024))
}
