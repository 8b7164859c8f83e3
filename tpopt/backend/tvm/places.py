"""Where a point of a stage lies: the values of its iterators, and indices over them as scalars or lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import TypeAlias

from tvm import tirx

from tpopt.backend.tvm.code import INDEX, Expr, Number, lanes_of, scalar, splat
from tpopt.ir import Atom, FloorDiv, Index, Iter, Lookup, Mod
from tpopt.ir.bounds import nonnegative
from tpopt.ir.index import index


@dataclass(frozen=True)
class Line:
    """``base + step * lane``: an index whose lanes are evenly spaced. ``multiple`` is known to divide ``base``."""

    base: Number
    step: int = 0
    multiple: int = 1

    @staticmethod
    def of(value: Number, multiple: int = 1) -> Line:
        """The same index in all lanes."""
        return Line(value, 0, abs(value) if isinstance(value, int) else multiple)


Where: TypeAlias = "Line | Expr"
"""An index: evenly spaced, or any vector of them."""
Fetch: TypeAlias = Callable[[Lookup, "Place"], "Where"]


@dataclass(frozen=True)
class Place:
    """One point, or ``lanes`` neighbouring points along one iterator.

    ``values`` has an entry for every iterator in scope. ``lanes`` is the width of every vector made here.
    """

    values: Mapping[Iter, Line] = field(default_factory=dict)
    lanes: int = 1


class Indices:
    """Evaluates indices at places; ``bind`` names what is used twice, ``fetch`` reads an element of a lookup."""

    def __init__(self, bind: Callable[[Expr], Expr], fetch: Fetch) -> None:
        self._bind, self._fetch = bind, fetch

    def at(self, where: Index, place: Place) -> Where:
        """The value of an index."""
        total: Where = Line.of(0)
        for coefficient, atoms in where.terms:
            part: Where = Line.of(coefficient)
            for atom in atoms:
                part = multiply(part, self._atom(atom, place), place.lanes)
            total = add(total, part, place.lanes)
        return total

    def _atom(self, atom: Atom, place: Place) -> Where:
        if isinstance(atom, Iter):
            return place.values[atom]
        if isinstance(atom, (FloorDiv, Mod)):
            numerator = self.at(atom.numerator, place)
            denominator = index(atom.denominator).constant
            assert denominator, "sizes are known when a kernel is written"
            plain = nonnegative(atom.numerator)
            make = quotient if isinstance(atom, FloorDiv) else remainder
            return make(numerator, denominator, place.lanes, plain, self._bind)
        assert isinstance(atom, Lookup)
        return self._fetch(atom, place)


def vector(where: Where, lanes: int) -> Expr:
    """An index as an expression of that many lanes."""
    if not isinstance(where, Line):
        return splat(where, lanes)
    if lanes == 1 or where.step == 0:
        return splat(where.base, lanes) if lanes > 1 else scalar(where.base)
    return tirx.Ramp(scalar(where.base), tirx.const(where.step, INDEX), lanes)


def add(a: Where, b: Where, lanes: int) -> Where:
    """Sum of indices."""
    if isinstance(a, Line) and isinstance(b, Line):
        return Line(a.base + b.base, a.step + b.step, gcd(a.multiple, b.multiple))
    return vector(a, lanes) + vector(b, lanes)


def multiply(a: Where, b: Where, lanes: int) -> Where:
    """Product of indices."""
    if isinstance(a, Line) and isinstance(b, Line) and not (a.step and b.step):
        if isinstance(a.base, int) and not a.step:
            return Line(a.base * b.base, a.base * b.step, abs(a.base) * b.multiple)
        if isinstance(b.base, int) and not b.step:
            return multiply(b, a, lanes)
        if not a.step and not b.step:
            return Line(a.base * b.base, 0, a.multiple * b.multiple)
    return vector(a, lanes) * vector(b, lanes)


def quotient(a: Where, by: int, lanes: int, plain: bool, bind: Callable[[Expr], Expr]) -> Where:
    """``a`` divided by a positive number, rounded down. ``plain`` says that ``a`` is never negative."""
    if isinstance(a, Line):
        if not a.step:
            return Line.of(
                a.base // by if isinstance(a.base, int) else bind(_floordiv(scalar(a.base), by, plain, bind))
            )
        if _one_block(a, by, lanes):
            return Line.of(
                a.base // by if isinstance(a.base, int) else bind(_floordiv(scalar(a.base), by, plain, bind))
            )
    return bind(_floordiv(vector(a, lanes), by, plain, bind))


def remainder(a: Where, by: int, lanes: int, plain: bool, bind: Callable[[Expr], Expr]) -> Where:
    """What is left of ``a`` after division by a positive number, never negative."""
    if isinstance(a, Line) and (not a.step or _one_block(a, by, lanes)):
        base = a.base % by if isinstance(a.base, int) else bind(_floormod(scalar(a.base), by, plain, bind))
        return Line(base, a.step, gcd(a.multiple, by))
    return bind(_floormod(vector(a, lanes), by, plain, bind))


def _one_block(a: Line, by: int, lanes: int) -> bool:
    """Whether all lanes lie between the same two multiples of ``by``."""
    span = a.step * lanes
    if isinstance(a.base, int):
        return a.step > 0 and a.base % by + a.step * (lanes - 1) < by
    return a.step > 0 and by % span == 0 and a.multiple % span == 0


def _floordiv(a: Expr, by: int, plain: bool, bind: Callable[[Expr], Expr]) -> Expr:
    lanes = lanes_of(a)
    if by & (by - 1) == 0:
        return tirx.shift_right(a, splat(by.bit_length() - 1, lanes))
    if plain:
        return tirx.Div(a, splat(by, lanes))
    a = bind(a)
    down = tirx.Select(a < splat(0, lanes), splat(by - 1, lanes), splat(0, lanes))
    return tirx.Div(a - down, splat(by, lanes))


def _floormod(a: Expr, by: int, plain: bool, bind: Callable[[Expr], Expr]) -> Expr:
    lanes = lanes_of(a)
    if by & (by - 1) == 0:
        return tirx.bitwise_and(a, splat(by - 1, lanes))
    a = bind(a)
    return a - _floordiv(a, by, plain, bind) * splat(by, lanes)
