"""Arrays over named axes, and the forms in which they enter elementwise and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tpopt.ir.index import Iter
from tpopt.ir.program import Array


@dataclass(frozen=True)
class Operand:
    """An array with one dimension for each of ``axes``, at full extent."""

    axes: tuple[Iter, ...]
    array: Array


@dataclass(frozen=True)
class Roles:
    """What each axis of a product of two operands is: in both and kept, in one, or in both and summed."""

    batch: tuple[Iter, ...]
    rows: tuple[Iter, ...]
    inner: tuple[Iter, ...]
    columns: tuple[Iter, ...]

    @property
    def result(self) -> tuple[Iter, ...]:
        return (*self.batch, *self.rows, *self.columns)


def spread(operand: Operand, axes: Sequence[Iter]) -> Array:
    """The operand's dimensions in the order of ``axes``, extent 1 for those it lacks."""
    present = [i for i in axes if i in operand.axes]
    turned = operand.array.transpose([operand.axes.index(i) for i in present])
    return turned.reshape([turned.shape[present.index(i)] if i in present else 1 for i in axes])


def matrix(operand: Operand, batch: Sequence[Iter], rows: Sequence[Iter], columns: Sequence[Iter]) -> Array:
    """``(batch..., rows, columns)``, copied only where the grouped axes cannot be one stride.

    A copy is made in the order of the source's strides, which is several times faster than against them.
    """
    place = [operand.axes.index(i) for i in (*batch, *rows, *columns)]
    turned = operand.array.transpose(place)
    lead, split = turned.shape[: len(batch)], len(batch) + len(rows)
    height, width = prod(turned.shape[len(batch) : split]), prod(turned.shape[split:])
    if rows and columns and _finest(turned, len(batch)) < split:
        swapped = turned.transpose([*range(len(batch)), *range(split, turned.ndim), *range(len(batch), split)])
        return swapped.reshape((*lead, width, height)).swapaxes(-1, -2)
    return turned.reshape((*lead, height, width))


def overlapping(array: Array) -> bool:
    """Whether a view has more elements than the memory it spans."""
    if not array.size:
        return False
    span = sum((n - 1) * abs(step) for n, step in zip(array.shape, array.strides, strict=True)) + array.itemsize
    return bool(span < array.size * array.itemsize)


def is_matrix(operand: Operand, rows: Sequence[Iter], columns: Sequence[Iter]) -> bool:
    """Whether ``rows`` by ``columns`` is a matrix in memory already, as BLAS wants it."""
    if len(rows) != 1 or len(columns) != 1:
        return False
    down, across = operand.axes.index(rows[0]), operand.axes.index(columns[0])
    return any(_runs(operand.array, a, b) for a, b in ((down, across), (across, down)))


def _runs(array: Array, outer: int, inner: int) -> bool:
    """Whether ``inner`` is contiguous and ``outer`` steps over at least one run of it."""
    item, step = array.itemsize, array.strides[outer]
    return array.strides[inner] == item and step >= array.shape[inner] * item


def _finest(array: Array, start: int) -> int:
    """The dimension from ``start`` on with the smallest step between elements (of those with more than one)."""
    candidates = [n for n in range(start, array.ndim) if array.shape[n] > 1] or [array.ndim - 1]
    return min(candidates, key=lambda n: (abs(array.strides[n]), -n))
