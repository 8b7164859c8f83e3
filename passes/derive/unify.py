"""Do two products have the same factors, but for the names of what they sum over?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tpopt.ir import Iter, Scalar
from tpopt.ir.walk import substitute_iters
from tpopt.rewrite.stages import free_iters

MOST_TRIES = 2_000


def unified(
    factors: Sequence[Scalar],
    others: Sequence[Scalar],
    fixed: frozenset[Iter],
    known: Mapping[Iter, Iter] | None = None,
) -> dict[Iter, Iter] | None:
    """Which iterator of ``others`` each iterator of ``factors`` corresponds to, if renaming makes them equal.

    Iterators in ``fixed`` stand for themselves. Factors may come in any order.
    """
    if len(factors) != len(others):
        return None
    pending: list[tuple[int, tuple[int, ...], dict[Iter, Iter]]] = [(0, tuple(range(len(others))), dict(known or {}))]
    tries = 0
    while pending and tries < MOST_TRIES:
        number, left, mapping = pending.pop()
        tries += 1
        if number == len(factors):
            return mapping
        for position in reversed(left):
            found = _matched(factors[number], others[position], fixed, mapping)
            if found is not None:
                pending.append((number + 1, tuple(p for p in left if p != position), found))
    return None


def _matched(
    one: Scalar, other: Scalar, fixed: frozenset[Iter], mapping: Mapping[Iter, Iter]
) -> dict[Iter, Iter] | None:
    """``mapping`` extended so that ``one`` becomes ``other``."""
    mine, theirs = free_iters(one), free_iters(other)
    if len(mine) != len(theirs):
        return None
    found = dict(mapping)
    taken = set(found.values())
    for a, b in zip(mine, theirs, strict=True):
        if a in fixed or b in fixed:
            if a is not b:
                return None
        elif a in found:
            if found[a] is not b:
                return None
        elif b in taken or a.extent != b.extent:
            return None
        else:
            found[a] = b
            taken.add(b)
    renamed = substitute_iters(one, {a: found[a] for a in mine if a in found})
    return found if renamed is other else None
