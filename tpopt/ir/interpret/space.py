"""Index values and guards as arrays over a box of iterators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np

from tpopt.ir.index import Atom, FloorDiv, Index, Iter, Lookup, Mod, Symbol
from tpopt.ir.interpret.affine import Range, Ranges, Symbols
from tpopt.ir.interpret.arithmetic import Arithmetic
from tpopt.ir.program import Array
from tpopt.ir.terms import Bound

Box: TypeAlias = Mapping[Iter, Range]
Broken: TypeAlias = Callable[[Lookup, Array, Array], None]


def points(box: Box, axes: Iterable[Iter]) -> int:
    """Number of points of a box along some axes."""
    return prod(box[i][1] - box[i][0] for i in axes)


def pieces(box: Box, axes: Sequence[Iter], limit: int) -> Iterator[dict[Iter, Range]]:
    """Cuts a box, outermost axis first, into boxes of at most ``limit`` points along ``axes``; in row-major order."""
    inner = points(box, axes)
    cuts: list[list[Range]] = []
    for axis in axes:
        low, high = box[axis]
        if inner <= limit or high - low <= 1:
            cuts.append([(low, high)])
            inner //= max(1, high - low)
            continue
        inner //= high - low
        step = max(1, limit // max(1, inner))
        cuts.append([(start, min(start + step, high)) for start in range(low, high, step)])
    for chosen in product(*cuts):
        yield {**box, **dict(zip(axes, chosen, strict=True))}


class Space:
    """A box over ``axes``. Arrays have one dimension for each axis, of extent 1 where the value does not depend on it.

    ``broken`` is told of lookups that break their bounds: the atom, the values, and where.
    """

    def __init__(
        self,
        axes: Sequence[Iter],
        box: Box,
        tensors: Mapping[str, Array],
        symbols: Symbols,
        arithmetic: Arithmetic,
        broken: Broken,
    ) -> None:
        self.axes = tuple(axes)
        self.box = box
        self.tensors = tensors
        self.symbols = symbols
        self.arithmetic = arithmetic
        self._broken = broken
        self._place = {axis: n for n, axis in enumerate(self.axes)}
        self._atoms: dict[Atom, Array] = {}

    @property
    def ranges(self) -> Ranges:
        return self.box

    def place(self, axis: Iter) -> int:
        """Dimension of an axis."""
        return self._place[axis]

    def extent(self, axis: Iter) -> int:
        low, high = self.box[axis]
        return max(0, high - low)

    def on_axes(self, values: Array, over: Sequence[Iter]) -> Array:
        """An array whose dimensions are ``over`` (in the order of ``axes``), with the others added as extent 1."""
        shape = [1] * len(self.axes)
        for n, axis in enumerate(over):
            shape[self._place[axis]] = values.shape[n]
        return values.reshape(shape)

    def values(self, where: Index) -> Array:
        """An index at every point, as ``int64``."""
        total: Array = np.zeros((1,) * len(self.axes), np.int64)
        for coefficient, atoms in where.terms:
            part: Array = np.asarray(coefficient, np.int64)
            for atom in atoms:
                part = part * self._atom(atom)
            total = total + part
        return total

    def holds(self, bounds: Iterable[Bound]) -> Array:
        """Where every bound holds."""
        inside: Array = np.ones((1,) * len(self.axes), bool)
        for b in bounds:
            value = self.values(b.value)
            inside = inside & (self.values(b.low) <= value) & (value < self.values(b.high))
        return inside

    def nonnegative(self, halves: Iterable[Index]) -> Array:
        """Where every index is at least 0."""
        inside: Array = np.ones((1,) * len(self.axes), bool)
        for half in halves:
            inside = inside & (self.values(half) >= 0)
        return inside

    def _atom(self, atom: Atom) -> Array:
        if atom not in self._atoms:
            self._atoms[atom] = self._compute(atom)
        return self._atoms[atom]

    def _compute(self, atom: Atom) -> Array:
        match atom:
            case Iter():
                return self.on_axes(np.arange(*self.box[atom], dtype=np.int64), (atom,))
            case Symbol():
                from tpopt.ir.interpret.affine import number

                return np.asarray(number(Index(((1, (atom,)),)), self.symbols), np.int64)
            case FloorDiv():
                return np.asarray(np.floor_divide(self.values(atom.numerator), self.values(atom.denominator)))
            case Mod():
                return np.asarray(np.mod(self.values(atom.numerator), self.values(atom.denominator)))
            case Lookup():
                return self._lookup(atom)

    def _lookup(self, atom: Lookup) -> Array:
        table = self.tensors[atom.tensor.name]
        where, outside = clipped([self.values(i) for i in atom.indices], table.shape)
        found = table[where] if table.size else np.zeros(np.broadcast_shapes(*(w.shape for w in where)), np.int64)
        if not where:
            found = found.reshape((1,) * len(self.axes))
        values, wrong = self.arithmetic.lookup(found.astype(np.int64), self.values(atom.low), self.values(atom.high))
        if outside is not None or wrong.any():
            self._broken(atom, values, wrong if outside is None else wrong | outside)
        return values


def clipped(where: Sequence[Array], shape: Sequence[int]) -> tuple[tuple[Array, ...], Array | None]:
    """Positions brought inside ``shape``, and where some were not (``None``: nowhere)."""
    inside: list[Array] = []
    outside: Array | None = None
    for position, extent in zip(where, shape, strict=True):
        if position.size and (position.min() < 0 or position.max() >= extent):
            wrong = (position < 0) | (position >= extent)
            outside = wrong if outside is None else outside | wrong
            inside.append(np.clip(position, 0, max(0, extent - 1)))
        else:
            inside.append(position)
    return tuple(inside), outside


def cut(array: Array, axes: Sequence[Iter], box: Box, part: Box) -> Array:
    """The part of an array over ``axes`` of ``box``; dimensions of extent 1 do not vary and stay."""
    if box is part:
        return array
    picks = [
        slice(part[i][0] - box[i][0], part[i][1] - box[i][0]) if n != 1 else slice(None)
        for i, n in zip(axes, array.shape, strict=True)
    ]
    return sliced(array, picks)


def sliced(array: Array, slices: Iterable[slice]) -> Array:
    """A view of a part, also of an array without dimensions (plain indexing would give a number)."""
    where: tuple[Any, ...] = (*slices, ...)
    return np.asarray(array[where])
