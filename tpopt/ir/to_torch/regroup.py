"""Index divisions that only regroup axes: recognised, so that a reshape serves them instead of index tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tpopt.ir.division import floordiv
from tpopt.ir.index import Atom, FloorDiv, Index, Iter, Mod, add, index, map_atoms, multiply, substitute, walk_atoms
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


@dataclass(frozen=True)
class Digits:
    """Indices rewritten over the digits of iterators; ``parts`` lists each one's digits, most significant first."""

    indices: list[Index]
    parts: Mapping[Iter, tuple[Iter, ...]]


def split_iterators(indices: Sequence[Index]) -> Digits | None:
    """Splits iterators that are divided by constants into mixed-radix digits; ``None`` unless that makes all affine."""
    cuts: dict[Iter, dict[int, None]] = {}
    for where in indices:
        for atom in walk_atoms(where):
            if isinstance(atom, (FloorDiv, Mod)) and not _collect(atom, cuts):
                return None
    if not cuts:
        return None
    parts: dict[Iter, tuple[Iter, ...]] = {}
    mapping: dict[Atom, Index] = {}
    for it, found in cuts.items():
        chain = sorted(found)
        radices = [1, *chain, it.extent]
        if any(not isinstance(r, int) for r in radices):
            return None
        steps = [r for r in radices if isinstance(r, int)]
        if any(b % a for a, b in pairwise(steps)):
            return None
        digits = [Iter(f"{it.name}/{a}", b // a) for a, b in pairwise(steps)]
        kept = [(d, a) for d, a in zip(digits, steps, strict=False) if d.extent != 1]
        mapping[it] = add(*(multiply(d, a) for d, a in kept)) if kept else index(0)
        parts[it] = tuple(d for d, _ in reversed(kept))
    new = [substitute(i, mapping) for i in indices]
    return Digits(new, parts) if all(affine(i) is not None for i in new) else None


def _collect(atom: FloorDiv | Mod, cuts: dict[Iter, dict[int, None]]) -> bool:
    """Records where ``atom`` cuts its iterator; False when it divides anything but one iterator by constants."""
    divisor = atom.denominator.constant
    if divisor is None:
        return False
    scale, inner = 1, _only(atom.numerator)
    while isinstance(inner, FloorDiv) and inner.denominator.constant is not None:
        scale *= inner.denominator.constant
        inner = _only(inner.numerator)
    if not isinstance(inner, Iter):
        return False
    found = cuts.setdefault(inner, {})
    found[scale * divisor] = None
    if scale > 1:
        found[scale] = None
    return True


def _only(where: Index) -> Atom | None:
    terms = where.terms
    return terms[0][1][0] if len(terms) == 1 and terms[0][0] == 1 and len(terms[0][1]) == 1 else None
