"""Guards and conditions: what the bounds of iterators decide, and conditions on positions written as guards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tpopt.ir import (
    Apply,
    Bound,
    Const,
    DType,
    Guard,
    Index,
    Lookup,
    Position,
    Scalar,
    Select,
    guard,
    nonnegative,
    select,
)
from tpopt.ir.bounds import minimum
from tpopt.ir.build import FALSE
from tpopt.ir.index import IndexLike, index, walk_atoms
from tpopt.ir.walk import guard_indices, postorder
from tpopt.rewrite import Match, Refusal, TermRule

Triple: TypeAlias = tuple[IndexLike, IndexLike, IndexLike]
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def _triples(where: Guard) -> list[Triple]:
    return [(b.low, b.value, b.high) for b in where.bounds]


def as_index(root: Scalar) -> Index | None:
    """An ``i64`` term as an index: sums, differences and products of positions and literals; ``None`` otherwise."""
    found: dict[Scalar, Index | None] = {}
    for term in postorder(root):
        operands = [found.get(a) for a in term.args] if isinstance(term, Apply) else []
        known = [o for o in operands if o is not None]
        match term:
            case Position(value):
                found[term] = value
            case Const(int(value), DType.I64):
                found[term] = index(value)
            case Apply("add" | "sub" | "mul" | "neg" as name, _) if (
                len(known) == len(operands) and term.dtype is DType.I64
            ):
                found[term] = _arithmetic(name, known)
            case _:
                found[term] = None
    return found[root]


def _arithmetic(name: str, operands: list[Index]) -> Index:
    result = operands[0]
    for operand in operands[1:]:
        result = result + operand if name == "add" else result - operand if name == "sub" else result * operand
    return -result if name == "neg" else result


def difference(condition: Scalar) -> tuple[str, Index] | None:
    """A comparison of two indices as ``(relation, left - right)``; ``None`` for anything else."""
    match condition:
        case Apply(name, (left, right)) if name in _COMPARISONS:
            a, b = as_index(left), as_index(right)
            return None if a is None or b is None else (name, a - b)
    return None


def _range_of(relation: str, value: Index) -> tuple[Index, Index] | None:
    """Inclusive low, exclusive high of the values for which the relation to zero holds; ``None`` when unbounded."""
    if relation in ("eq", "ne"):
        return index(0), index(1)
    if relation in ("lt", "le"):
        low = minimum(value)
        return None if low is None else (low, index(0 if relation == "lt" else 1))
    negated = minimum(-value)
    return None if negated is None else (index(1 if relation == "gt" else 0), 1 - negated)


def as_guard(condition: Scalar) -> tuple[list[Triple], bool] | None:
    """A condition on positions as bounds, and whether they describe its negation; ``None``: no conjunction."""
    triples: list[Triple] = []
    negated, pending = False, [condition]
    while pending:
        term = pending.pop()
        match term:
            case Apply("and", args):
                pending.extend(reversed(args))
                continue
            case Apply("not", (inner,)) if term is condition:
                negated, condition = True, inner
                pending.append(inner)
                continue
        compared = difference(term)
        where = None if compared is None else _range_of(*compared)
        if compared is None or where is None:
            return None
        if compared[0] == "ne":
            if term is not condition:
                return None
            negated = not negated
        triples.append((where[0], compared[1], where[1]))
    return triples, negated


@dataclass(frozen=True)
class DecideComparison(TermRule):
    """Replaces a comparison of positions with ``true`` or ``false`` when the bounds of the iterators decide it."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        if difference(node) is None:
            return None
        found = as_guard(node)
        if found is None:
            return None
        triples, negated = found
        bounds = guard(*triples).bounds
        if not bounds:
            return Match(value=not negated)
        return Match(value=negated) if _refuted(bounds) else None

    def rewrite(self, match: Match) -> Scalar:
        return Const(match.value, DType.BOOL)


def _refuted(bounds: tuple[Bound, ...]) -> bool:
    return len(bounds) == 1 and all(i.constant is not None for i in guard_indices(Guard(bounds)))


@dataclass(frozen=True)
class WhereOnLiteral(TermRule):
    """Replaces ``where(true, a, b)`` with ``a``, ``where(false, a, b)`` with ``b``, ``where(c, a, a)`` with ``a``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("where", (Const(value, _), a, b)):
                return Match(result=a if value else b)
            case Apply("where", (_, a, b)) if a is b:
                return Match(result=a)
        return None

    def rewrite(self, match: Match) -> Scalar:
        result: Scalar = match.result
        return result


@dataclass(frozen=True)
class WhereOnPositions(TermRule):
    """Replaces ``where(condition on positions, a, b)`` with a guarded ``select``: masks become part of the algebra."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("where", (condition, a, b)):
                found = as_guard(condition)
                return None if found is None else Match(triples=found[0], branches=(b, a) if found[1] else (a, b))
        return None

    def rewrite(self, match: Match) -> Scalar:
        return select(guard(*match.triples), *match.branches)


@dataclass(frozen=True)
class WhereOnNegation(TermRule):
    """Replaces ``where(not c, a, b)`` with ``where(c, b, a)``."""

    heads = (Apply,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Apply("where", (Apply("not", (condition,)), a, b)):
                return Match(args=(condition, b, a))
        return None

    def rewrite(self, match: Match) -> Scalar:
        return Apply("where", match.args)


def tightened(where: Guard) -> Guard:
    """The guard without proved bounds and with one bound for each value, where it is known which one is tighter."""
    found: dict[Index, Bound] = {}
    loose: list[Triple] = []
    for bound in where.bounds:
        other = found.setdefault(bound.value, bound)
        low = _larger(bound.low, other.low)
        high = _larger(-bound.high, -other.high)
        if low is None or high is None:
            loose.append((bound.low, bound.value, bound.high))
        elif nonnegative(low + high):
            return Guard((FALSE,))
        else:
            found[bound.value] = Bound(low, bound.value, -high)
    return guard(*_triples(Guard(tuple(found.values()))), *loose)


def _larger(a: Index, b: Index) -> Index | None:
    return a if nonnegative(a - b) else b if nonnegative(b - a) else None


@dataclass(frozen=True)
class TightenGuard(TermRule):
    """Replaces a ``select`` with one whose guard has no proved or implied bound, or with the branch that holds."""

    heads = (Select,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Select(where, inside, outside):
                new = select(tightened(where), inside, outside)
                return None if new is node else Match(new=new)
        return None

    def rewrite(self, match: Match) -> Scalar:
        new: Scalar = match.new
        return new


@dataclass(frozen=True)
class MergeNestedSelects(TermRule):
    """Replaces ``select(g, select(h, a, c), c)`` with ``select(g & h, a, c)``."""

    heads = (Select,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Select(outer, Select(inner, a, c), other) if c is other:
                return Match(outer=outer, inner=inner, a=a, c=c)
        return None

    def check(self, match: Match) -> Refusal | None:
        inner = [a for i in guard_indices(match.inner) for a in walk_atoms(i)]
        return Refusal("the inner guard looks values up where the outer one holds") if _looks_up(inner) else None

    def rewrite(self, match: Match) -> Scalar:
        return select(guard(*_triples(match.outer), *_triples(match.inner)), match.a, match.c)


def _looks_up(atoms: Sequence[object]) -> bool:
    return any(isinstance(a, Lookup) for a in atoms)


def _implies(known: Bound, wanted: Bound) -> bool:
    same = known.value is wanted.value
    return same and nonnegative(known.low - wanted.low) and nonnegative(wanted.high - known.high)


@dataclass(frozen=True)
class DropImpliedBounds(TermRule):
    """Replaces ``select(g, select(g & h, a, b), c)`` with ``select(g, select(h, a, b), c)``; outside ``g`` likewise."""

    heads = (Select,)

    def pattern(self, node: Scalar) -> Match | None:
        match node:
            case Select(outer, Select(inner, a, b), c):
                left = [w for w in inner.bounds if not any(_implies(k, w) for k in outer.bounds)]
                if len(left) < len(inner.bounds):
                    return Match(outer=outer, inside=select(guard(*_triples(Guard(tuple(left)))), a, b), outside=c)
        match node:
            case Select(outer, a, Select(inner, _, c)) if inner is outer:
                return Match(outer=outer, inside=a, outside=c)
        return None

    def rewrite(self, match: Match) -> Scalar:
        return select(match.outer, match.inside, match.outside)


GUARDS: tuple[TermRule, ...] = (
    TightenGuard(),
    MergeNestedSelects(),
    DropImpliedBounds(),
    WhereOnLiteral(),
    WhereOnNegation(),
    WhereOnPositions(),
    DecideComparison(),
)
