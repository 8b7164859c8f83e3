"""Laying an array out along tabled positions: slices and padding where they are regular, indexing elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tpopt.ir.interpret.space import sliced
from tpopt.ir.program import Array

Selector: TypeAlias = "slice | Array"


@dataclass(frozen=True)
class Table:
    """Position in the array for each value of a parameter (in bounds), and where it counts (elsewhere: the fill)."""

    source: Array
    valid: Array

    @property
    def full(self) -> bool:
        return bool(self.valid.all())


def lay_out(base: Array, tables: Mapping[int, Table], fill: Array | None) -> Array:
    """Replaces each axis in ``tables`` by its parameter: a view where that is a slice, else one copy."""
    if not tables:
        return base
    sources = [_selector(tables[n].source[tables[n].valid]) if n in tables else slice(None) for n in range(base.ndim)]
    taken = _take(base, sources)
    if all(t.full for t in tables.values()):
        return taken
    shape = [len(tables[n].source) if n in tables else base.shape[n] for n in range(base.ndim)]
    out = np.full(shape, fill, base.dtype) if fill is not None else np.zeros(shape, base.dtype)
    targets = [_selector(np.flatnonzero(tables[n].valid)) if n in tables else slice(None) for n in range(base.ndim)]
    if all(isinstance(t, slice) for t in targets):
        out[tuple(targets)] = taken
    else:
        out[np.ix_(*(_positions(t, n) for t, n in zip(targets, shape, strict=True)))] = taken
    return out


def _take(base: Array, selectors: list[Selector]) -> Array:
    """Slices first (views), then index arrays one axis at a time."""
    out = sliced(base, (s if isinstance(s, slice) else slice(None) for s in selectors))
    for n, selector in enumerate(selectors):
        if not isinstance(selector, slice):
            out = np.take(out, selector, axis=n)
    return out


def _selector(positions: Array) -> Selector:
    """A slice where the positions are evenly spaced, else the positions."""
    if len(positions) == 0:
        return slice(0, 0)
    first, last = int(positions[0]), int(positions[-1])
    if len(positions) == 1:
        return slice(first, first + 1)
    step = int(positions[1]) - first
    if step == 0 or (np.diff(positions) != step).any():
        return positions
    end = last + (1 if step > 0 else -1)
    return slice(first, end if end >= 0 else None, step)


def _positions(selector: Selector, extent: int) -> Array:
    return np.arange(*selector.indices(extent)) if isinstance(selector, slice) else selector
