"""Proofs about index expressions: sign and interval facts that hold for every iterator and symbol value."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from tpopt.ir.index import (
    Atom,
    FloorDiv,
    Index,
    IndexLike,
    Iter,
    Lookup,
    Mod,
    Symbol,
    add,
    index,
    multiply,
    substitute,
)

_ROUNDS = 24
_KEPT: Final = 1 << 14
"""Proofs remembered: the same few indices are asked about for every term that reads there."""


def _extremes(atom: Iter | FloorDiv | Mod | Lookup) -> tuple[Index | None, Index | None]:
    """Inclusive lower and upper bound of an atom as indices over symbols and other atoms; ``None`` when unknown."""
    if isinstance(atom, Iter):
        return index(0), index(atom.extent) - 1
    if isinstance(atom, Lookup):
        return atom.low, atom.high - 1
    if isinstance(atom, Mod):
        return index(0), atom.denominator - 1
    if atom.denominator.constant is None:
        return (index(0), None) if nonnegative(atom.numerator) and nonnegative(atom.denominator) else (None, None)
    low, high = interval(atom.numerator)
    d = atom.denominator.constant
    return (None if low is None else index(low // d), None if high is None else index(high // d))


def _nonnegative_symbols(value: Index) -> bool:
    """Sufficient test for a polynomial in symbols: shift each to its lower bound, then look at the signs."""
    if _nonnegative_signs(value):
        return True
    for symbol in [a for a in value.atoms if isinstance(a, Symbol)]:
        if symbol.high is not None and _direction(value, symbol) < 0:
            value = substitute(value, {symbol: index(symbol.high)})
    return _nonnegative_signs(value)


def _nonnegative_signs(value: Index) -> bool:
    shifted = substitute(value, {s: s + s.low for s in value.atoms if isinstance(s, Symbol) and s.low})
    return all(c >= 0 for c, _ in shifted.terms) and all(isinstance(a, Symbol) for a in shifted.atoms)


def _direction(value: Index, symbol: Symbol) -> int:
    """1 where the value never falls as the symbol grows, -1 where it never rises, 0 where neither is proved."""
    held = [(c, atoms) for c, atoms in value.terms if symbol in atoms]
    if all(isinstance(a, Symbol) and a.low >= 0 for _, atoms in held for a in atoms):
        if all(c > 0 for c, _ in held):
            return 1
        if all(c < 0 for c, _ in held):
            return -1
    if not _linear(value, symbol):
        return 0
    coefficient = value.coefficient(symbol)
    return 1 if nonnegative(coefficient) else -1 if nonnegative(-coefficient) else 0


def _linear(value: Index, atom: Atom) -> bool:
    return all(atoms.count(atom) <= 1 for _, atoms in value.terms)


def minimum(value: IndexLike) -> Index | None:
    """A lower bound of ``value`` over its iterators, as a polynomial in symbols; ``None`` when none is found."""
    current = index(value)
    for _ in range(_ROUNDS):
        bound = [a for a in current.atoms if not isinstance(a, Symbol)]
        if not bound:
            return current
        for atom in bound:
            if not _linear(current, atom):
                return None
            coefficient = current.coefficient(atom)
            low, high = _extremes(atom)
            rest = add(current, multiply(multiply(coefficient, atom), -1))
            if low is not None and nonnegative(coefficient):
                current = add(rest, multiply(coefficient, low))
                break
            if high is not None and nonnegative(-coefficient):
                current = add(rest, multiply(coefficient, high))
                break
        else:
            return None
    return None


@lru_cache(maxsize=_KEPT)
def nonnegative(value: IndexLike) -> bool:
    """Whether ``value >= 0`` is proved for all iterator and symbol values (False means: not proved)."""
    canonical = index(value)
    known = canonical.constant
    if known is not None:
        return known >= 0
    low = minimum(canonical)
    return low is not None and _nonnegative_symbols(low)


def interval(value: IndexLike) -> tuple[int | None, int | None]:
    """Inclusive integer bounds ``(low, high)``; an end is ``None`` where it is not a known number."""
    canonical = index(value)
    low, negated = minimum(canonical), minimum(-canonical)
    low_number = _number(low)
    high_number = _number(negated)
    return low_number, None if high_number is None else -high_number


def _number(value: Index | None) -> int | None:
    """The least value over the symbols, where it is a known number."""
    if value is None:
        return None
    for symbol in [a for a in value.atoms if isinstance(a, Symbol)]:
        direction = _direction(value, symbol)
        if direction > 0:
            value = substitute(value, {symbol: symbol.low})
        elif direction < 0 and symbol.high is not None:
            value = substitute(value, {symbol: symbol.high})
        else:
            return None
    return value.constant


@lru_cache(maxsize=_KEPT)
def within(value: IndexLike, low: IndexLike, high: IndexLike) -> bool:
    """Whether ``low <= value < high`` is proved."""
    v = index(value)
    return nonnegative(v - low) and nonnegative(index(high) - 1 - v)


def outside(value: IndexLike, low: IndexLike, high: IndexLike) -> bool:
    """Whether ``low <= value < high`` is proved false everywhere."""
    v = index(value)
    return nonnegative(index(low) - 1 - v) or nonnegative(v - high)
