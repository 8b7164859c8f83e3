"""Copies whose results lie in another order than what they read, and pointwise work on such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from torch.nn import functional

from kernels.seeding import Example, Formula, tensors

Shape = tuple[int, ...]


def to_channels_last(shape: Shape) -> Example:
    """Images with their channels side by side."""
    return Formula(lambda x: x.permute(0, 2, 3, 1).contiguous()), tensors(shape)


def to_channels_first(shape: Shape) -> Example:
    """The other way round."""
    return Formula(lambda x: x.permute(0, 3, 1, 2).contiguous()), tensors(shape)


def transposed_gelu(shape: Shape) -> Example:
    """What stands between the products of a mixer: GELU along the other axis."""
    return Formula(lambda x: functional.gelu(x.transpose(1, 2)).contiguous()), tensors(shape)


TRANSPOSES: Final[Mapping[str, Callable[[], Example]]] = {
    "to_channels_last": partial(to_channels_last, (1, 256, 64, 64)),
    "to_channels_last_small": partial(to_channels_last, (1, 512, 32, 32)),
    "to_channels_first": partial(to_channels_first, (1, 64, 64, 256)),
    "transposed_gelu": partial(transposed_gelu, (2, 256, 512)),
}
