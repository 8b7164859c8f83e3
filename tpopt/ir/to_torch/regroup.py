"""Axes whose indices are quotient and remainder of one position: merged, so that a reshape serves the read."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.ir.division import floordiv
from tpopt.ir.index import Atom, Index, Mod, add, index, map_atoms, multiply, walk_atoms
from tpopt.ir.to_torch.indexing import affine

_ROUNDS = 8


def merge_dimensions(shape: tuple[int, ...], indices: Sequence[Index]) -> tuple[tuple[int, ...], list[Index]]:
    """Merges neighbouring axes whose joint row-major position is affine although their own indices are not.

    ``x[e // n, e % n]`` over axes ``(m, n)`` is ``x.reshape(m * n)[e]``; both leave the tensor for the same ``e``.
    """
    extents, merged = list(shape), [index(i) for i in indices]
    last = len(extents) - 1
    while last > 0:
        if affine(merged[last]) is None:
            found = _merge_up(extents, merged, last)
            if found is not None:
                first, joint, size = found
                extents[first : last + 1] = [size]
                merged[first : last + 1] = [joint]
                last = first
        last -= 1
    return tuple(extents), merged


def _merge_up(extents: list[int], indices: list[Index], last: int) -> tuple[int, Index, int] | None:
    joint, size = without_mods(indices[last]), extents[last]
    for first in range(last - 1, -1, -1):
        joint = without_mods(add(joint, multiply(indices[first], size)))
        size *= extents[first]
        if affine(joint) is not None:
            return first, joint, size
    return None


def without_mods(where: Index) -> Index:
    """``e % d`` written as ``e - d * (e // d)``, throughout."""

    def change(atom: Atom) -> Index | None:
        if not isinstance(atom, Mod):
            return None
        e = map_atoms(atom.numerator, change)
        return add(e, multiply(multiply(atom.denominator, floordiv(e, atom.denominator)), -1))

    for _ in range(_ROUNDS):
        if not any(isinstance(a, Mod) for a in walk_atoms(where)):
            break
        where = map_atoms(where, change)
    return where
