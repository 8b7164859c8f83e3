"""Operators that reduce each row and use the result on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch.nn import functional

from kernels.seeding import Example, Formula, tensors

Shape = tuple[int, ...]


def softmax(shape: Shape) -> Example:
    """Softmax over the last axis."""
    return Formula(lambda x: torch.softmax(x, -1)), tensors(shape)


def layer_norm(shape: Shape) -> Example:
    """Layer norm over the last axis, with weight and bias."""
    own = shape[-1:]
    return Formula(lambda x, w, b: functional.layer_norm(x, own, w, b)), tensors(shape, own, own)


def rms_norm(shape: Shape) -> Example:
    """Root-mean-square norm over the last axis, with weight (Zhang, Sennrich, 2019)."""
    own = shape[-1:]
    return Formula(lambda x, w: functional.rms_norm(x, own, w, 1e-6)), tensors(shape, own)


def logsumexp(shape: Shape) -> Example:
    """Log-sum-exp over the last axis."""
    return Formula(lambda x: torch.logsumexp(x, -1)), tensors(shape)


FORMULAS: Final[tuple[Callable[[Shape], Example], ...]] = (softmax, layer_norm, rms_norm, logsumexp)

ROWS: Final[Mapping[str, Callable[[], Example]]] = {
    "softmax": partial(softmax, (4096, 512)),
    "layer_norm": partial(layer_norm, (2048, 768)),
    "rms_norm": partial(rms_norm, (1024, 2048)),
    "logsumexp": partial(logsumexp, (1024, 1000)),
}
