"""Drop sums over an iterator that a guard pins to one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tpopt.ir import Bound, Guard, Index, Iter, Program, Reduce, Scalar, Select, guard, reduce, select
from tpopt.ir.index import walk_atoms
from tpopt.ir.walk import is_literal
from tpopt.rewrite import Match, Numerics, Pass, TermRule, Trace, rewrite_terms
from tpopt.rewrite.stages import moved


@dataclass(frozen=True)
class CollapseDelta(TermRule):
    """Replaces ``sum[t]{select(t = f, a(t), 0)}`` with ``select(0 <= f < T, a(f), 0)``."""

    numerics: ClassVar[Numerics] = Numerics.REASSOCIATING
    heads = (Reduce,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Reduce("sum", summed, (Select(where, inside, zero),)) if is_literal(zero, 0):
                for iterator in summed:
                    for bound in where.bounds:
                        value = pinned(bound, iterator)
                        if value is not None:
                            rest = tuple(i for i in summed if i is not iterator)
                            left = Guard(tuple(b for b in where.bounds if b is not bound))
                            return Match(iterator=iterator, value=value, rest=rest, left=left, inside=inside, zero=zero)
        return None

    def rewrite(self, match: Match) -> Scalar:
        body = moved(select(match.left, match.inside, match.zero), [match.iterator], [match.value])
        inside = guard((0, match.value, match.iterator.extent))
        return reduce("sum", match.rest, select(inside, body, match.zero))


def pinned(bound: Bound, iterator: Iter) -> Index | None:
    """The one value of an iterator for which a bound holds: ``f`` for ``0 <= t - f < 1``, or ``None``."""
    if (bound.high - bound.low).constant != 1:
        return None
    slope = bound.value.coefficient(iterator).constant
    if slope not in (1, -1):
        return None
    rest = bound.value - slope * iterator
    value = slope * (bound.low - rest)
    return None if iterator in walk_atoms(value) else value


@dataclass(frozen=True)
class CollapseDeltas(Pass):
    """Replaces a sum over an iterator that a guard pins to one value with the term at that value.

    A transposed convolution of one pixel, a scatter without collisions and a product with a one-hot matrix are such
    sums; what is left is often a view. Numerics: reassociating (the zeros that are no longer added change no number,
    only the sign of a zero).

    Given::

        y: f32[8] = L[i0:8] sum[t:9]{ select(0 <= i0-t < 1, x[t], 0.0) }

    Result::

        y: f32[8] = L[i0:8] x[i0]
    """

    name: ClassVar[str] = "collapse-deltas"
    numerics: ClassVar[Numerics] = Numerics.REASSOCIATING

    def run(self, program: Program, trace: Trace) -> Program:
        return rewrite_terms(program, (CollapseDelta(),), trace)
