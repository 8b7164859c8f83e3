"""Sizes as plain numbers: kernels are planned for known ones."""

from __future__ import annotations

from math import prod

from tpopt.errors import KernelUnsupported
from tpopt.ir import Iter, Tensor


def extent(iterator: Iter) -> int:
    """Points of a loop. Raises :class:`KernelUnsupported` for a size that is not known."""
    if not isinstance(iterator.extent, int):
        raise KernelUnsupported(f"the extent {iterator.extent} of {iterator.name} is not known before the model runs")
    return iterator.extent


def shape(tensor: Tensor) -> tuple[int, ...]:
    """Extents of a tensor. Raises :class:`KernelUnsupported` for one that is not known."""
    found = []
    for size in tensor.shape:
        if not isinstance(size, int):
            raise KernelUnsupported(f"the extent {size} of {tensor.name} is not known before the model runs")
        found.append(size)
    return tuple(found)


def elements(tensor: Tensor) -> int:
    """Elements of a tensor."""
    return prod(shape(tensor))
