"""Reads whose indices are integer combinations of iterators, as padding and plain torch views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch

from tpopt.ir.dtypes import DType
from tpopt.ir.index import Iter
from tpopt.ir.terms import Number
from tpopt.ir.to_torch.indexing import Affine
from tpopt.ir.to_torch.lowering import Lowering, Named

Op = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Dim:
    """How one axis of a tensor is read, and which of its positions count (half-open)."""

    index: Affine
    low: int
    high: int


def affine_view(
    low: Lowering, slot: int, shape: tuple[int, ...], dims: Sequence[Dim], fill: Number, dtype: DType
) -> Named:
    """The named view of a tensor; positions that do not count, or are outside, hold ``fill``."""
    found = unordered_view(low, slot, shape, dims, fill, dtype)
    return low.permute(found, low.order(found.axes))


def unordered_view(
    low: Lowering, slot: int, shape: tuple[int, ...], dims: Sequence[Dim], fill: Number, dtype: DType
) -> Named:
    """The same with its axes as they come."""
    slices: list[slice] = []
    pads: list[int] = []
    for dim, extent in zip(dims, shape, strict=True):
        first, last = dim.index.span
        start, stop = max(first, dim.low, 0), min(last + 1, dim.high, extent)
        if start >= stop:
            return low.literal(fill, dtype)
        slices.append(slice(start, stop))
        pads = [start - first, last + 1 - stop, *pads]
    value = slot
    if any((s.start, s.stop) != (0, n) for s, n in zip(slices, shape, strict=True)):
        where = tuple(slices)
        value = low.tape.emit(lambda t: t[where], value)
    if any(pads):
        value = low.tape.emit(lambda t: torch.constant_pad_nd(t, pads, fill), value)
        low.note(prod(d.index.span[1] - d.index.span[0] + 1 for d in dims))
    ops, labels = _axes(dims)
    axes = tuple(labels)
    result = low.view(_chain(ops), value, axes) if ops else Named(value, axes)
    if prod(low.extents(axes)) > 2 * prod(shape):
        low.inflated.add(result.slot)
    return result


def _chain(ops: list[Op]) -> Op:
    if len(ops) == 1:
        return ops[0]

    def run(t: torch.Tensor) -> torch.Tensor:
        for op in ops:
            t = op(t)
        return t

    return run


Label = tuple[Iter | None, int]
"""An axis: its iterator (None while its dimension is not split yet), and the dimension it comes from."""


def _axes(dims: Sequence[Dim]) -> tuple[list[Op], list[Iter]]:
    """Steps that turn one axis per dimension (starting at its smallest position) into one axis per iterator."""
    ops: list[Op] = []
    labels: list[Label] = [(None, d) for d in range(len(dims))]
    flips: list[Label] = []
    for d, dim in enumerate(dims):
        coefficients = dim.index.coefficients
        if coefficients and all(c < 0 for _, c in coefficients):
            ops.append(_flip((labels.index((None, d)),)))
            coefficients = tuple((i, -c) for i, c in coefficients)
        flips += _one_dimension(ops, labels, labels.index((None, d)), coefficients)
    if flips:
        ops.append(_flip(tuple(p for p, label in enumerate(labels) if label in flips)))
    return ops, _diagonals(ops, [i for i, _ in labels if i is not None])


def _flip(where: tuple[int, ...]) -> Op:
    return lambda t: t.flip(where)


def _one_dimension(
    ops: list[Op], labels: list[Label], position: int, coefficients: tuple[tuple[Iter, int], ...]
) -> list[Label]:
    """Splits one axis among its iterators; returns those that run backwards."""
    if not coefficients:
        ops.append(lambda t: t.select(position, 0))
        del labels[position]
        return []
    d = labels[position][1]
    ordered = sorted(coefficients, key=lambda c: -abs(c[1]))
    for n, (it, c) in enumerate(ordered[:-1]):
        rest = 1 + sum(abs(k) * (_extent(i) - 1) for i, k in ordered[n + 1 :])
        ops.append(_unfold(position, rest, abs(c)))
        labels[position] = (it, d)
        position = len(labels)
        labels.append((None, d))
    it, c = ordered[-1]
    labels[position] = (it, d)
    if abs(c) != 1:
        ops.append(_every(position, abs(c)))
    return [(i, d) for i, k in ordered if k < 0]


def _extent(it: Iter) -> int:
    assert isinstance(it.extent, int)
    return it.extent


def _unfold(position: int, size: int, step: int) -> Op:
    return lambda t: t.unfold(position, size, step)


def _every(position: int, step: int) -> Op:
    where = (*(slice(None),) * position, slice(None, None, step))
    return lambda t: t[where]


def _diagonals(ops: list[Op], labels: list[Iter]) -> list[Iter]:
    """An iterator that indexes several axes walks their diagonal."""
    while len(set(labels)) < len(labels):
        first, second = next((p, q) for q, b in enumerate(labels) for p, a in enumerate(labels[:q]) if a is b)
        ops.append(_diagonal(first, second))
        label = labels[first]
        labels = [a for p, a in enumerate(labels) if p not in (first, second)] + [label]
    return labels


def _diagonal(first: int, second: int) -> Op:
    return lambda t: t.diagonal(0, first, second)
