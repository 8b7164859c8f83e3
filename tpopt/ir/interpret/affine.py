"""Indices with the run-time symbols bound: affine forms, and the one direction along which an index varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

import numpy as np

from tpopt.errors import UnsupportedInput
from tpopt.ir.index import Atom, FloorDiv, Index, IndexLike, Iter, Lookup, Mod, Symbol, evaluate, index, walk_atoms
from tpopt.ir.program import Array

Range: TypeAlias = tuple[int, int]
Ranges: TypeAlias = Mapping[Iter, Range]
Symbols: TypeAlias = Mapping[str, int]
Direction: TypeAlias = tuple[tuple[Iter, int], ...]  # coprime coefficients, the first one positive


@dataclass(frozen=True)
class Affine:
    """``offset + sum of coefficient * iterator``."""

    offset: int
    terms: tuple[tuple[Iter, int], ...]

    def at_start(self, ranges: Ranges) -> int:
        """Value where every iterator is at the start of its range."""
        return self.offset + sum(c * ranges[i][0] for i, c in self.terms)

    def span(self, ranges: Ranges) -> Range:
        """Smallest and largest value over non-empty ranges, both included."""
        low = high = self.offset
        for i, c in self.terms:
            first, last = c * ranges[i][0], c * (ranges[i][1] - 1)
            low, high = low + min(first, last), high + max(first, last)
        return low, high

    @property
    def direction(self) -> Direction:
        """The terms divided by their common factor; ``()`` for a constant."""
        factor = self.factor
        return tuple((i, c // factor) for i, c in self.terms)

    @property
    def factor(self) -> int:
        """What the direction is multiplied by."""
        if not self.terms:
            return 1
        return gcd(*(c for _, c in self.terms)) * (1 if self.terms[0][1] > 0 else -1)


def number(value: IndexLike, symbols: Symbols) -> int:
    """Value of an index over symbols alone. Raises :class:`UnsupportedInput` for a symbol that no input determines."""
    if isinstance(value, int):
        return value
    try:
        return evaluate(value, symbols)
    except KeyError as missing:
        raise UnsupportedInput(f"size {value}: the value of symbol {missing.args[0]!r} is not known") from None


def varies(atom: Atom) -> bool:
    """Whether an atom depends on iterators or on data."""
    return any(isinstance(a, (Iter, Lookup)) for a in (atom, *walk_atoms(index(atom))))


def parts(where: Index, symbols: Symbols) -> tuple[Affine, list[tuple[int, Atom]]] | None:
    """The affine part and what else is added, as coefficient and atom; ``None`` when varying atoms are multiplied."""
    offset, slopes, others = 0, dict[Iter, int](), list[tuple[int, Atom]]()
    for coefficient, atoms in where.terms:
        scale, varying = coefficient, list[Atom]()
        for atom in atoms:
            if isinstance(atom, Iter) or (not isinstance(atom, Symbol) and varies(atom)):
                varying.append(atom)
            else:
                scale *= number(index(atom), symbols)
        if len(varying) > 1:
            return None
        if not varying:
            offset += scale
        elif isinstance(varying[0], Iter):
            slopes[varying[0]] = slopes.get(varying[0], 0) + scale
        else:
            others.append((scale, varying[0]))
    return Affine(offset, tuple((i, c) for i, c in slopes.items() if c)), others


def affine(where: Index, symbols: Symbols) -> Affine | None:
    """The affine form, or ``None`` where there is none."""
    found = parts(where, symbols)
    return found[0] if found is not None and not found[1] else None


def line(where: Index, symbols: Symbols) -> Direction | None:
    """The one direction along which an index varies, ``()`` for a constant, ``None`` if there are more (or lookups)."""
    found: dict[Direction, None] = {}
    pending = [where]
    while pending:
        split = parts(pending.pop(), symbols)
        if split is None:
            return None
        if split[0].terms:
            found[split[0].direction] = None
        for _, atom in split[1]:
            if not isinstance(atom, (FloorDiv, Mod)):
                return None
            pending += [atom.numerator, atom.denominator]
    if len(found) > 1:
        return None
    return next(iter(found), ())


def along(where: Index, symbols: Symbols, u: Array) -> Array:
    """Values of an index that varies along one :func:`line`, for the line's parameter ``u`` (1-d)."""
    split = parts(where, symbols)
    assert split is not None
    base, others = split
    total = base.offset + (base.factor * u if base.terms else np.zeros_like(u))
    for scale, atom in others:
        assert isinstance(atom, (FloorDiv, Mod))
        divide = np.floor_divide if isinstance(atom, FloorDiv) else np.mod
        total = total + scale * divide(along(atom.numerator, symbols, u), along(atom.denominator, symbols, u))
    return np.asarray(total)


def parameter_range(direction: Direction, ranges: Ranges) -> Range:
    """Half-open range of ``sum of coefficient * iterator``."""
    low, high = Affine(0, direction).span(ranges)
    return low, high + 1
