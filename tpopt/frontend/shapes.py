"""Index maps between shapes: row-major regrouping, and torch's clamping of slice bounds."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.frontend.registry import NoAlgebra
from tpopt.ir import Index, Iter, Size, ceildiv, nonnegative, size
from tpopt.ir.build import linear, unravel
from tpopt.ir.index import IndexLike, index, product


def is_empty(shape: Sequence[Size]) -> bool:
    """Whether an extent is known to be zero."""
    return any(index(n).constant == 0 for n in shape)


def reshaped(loops: Sequence[Iter | Index], target: Sequence[Size], source: Sequence[Size]) -> list[Index]:
    """Where, in an array of shape ``source``, the element at ``loops`` of its row-major reshape to ``target`` lies.

    Axes are matched in the smallest groups of equal size, so that an axis which both shapes have keeps its iterator.
    """
    found = [index(0)] * len(source)
    if is_empty(target):
        return found
    left = [(index(i), n) for i, n in zip(loops, target, strict=True) if n != 1]
    right = [(a, n) for a, n in enumerate(source) if n != 1]
    while left and right:
        taken, given = _group([n for _, n in left], [n for _, n in right])
        places = _regrouped(left[:taken], [n for _, n in right[:given]])
        for (a, _), where in zip(right[:given], places, strict=True):
            found[a] = where
        left, right = left[taken:], right[given:]
    return found


def _regrouped(left: Sequence[tuple[Index, Size]], right: Sequence[Size]) -> Sequence[Index]:
    """Places along axes of extents ``right`` of a row-major position, part by part where extents divide."""
    digits, wanted = [(i, index(n)) for i, n in left], [index(n) for n in right]
    found: list[Index] = []
    for extent in wanted:
        place, rest = index(0), extent
        while rest.constant != 1:
            if not digits:
                return _by_position(left, right)
            (digit, n), digits = digits[0], digits[1:]
            if (rest % n).constant == 0:  # the whole digit
                rest = rest // n
                place = place + digit * rest
            elif (n % rest).constant == 0:  # its upper part; the lower stays for the next axis
                lower = n // rest
                place, digits, rest = place + digit // lower, [(digit % lower, lower), *digits], index(1)
            else:
                return _by_position(left, right)
        found.append(place)
    return found


def _by_position(left: Sequence[tuple[Index, Size]], right: Sequence[Size]) -> Sequence[Index]:
    return unravel(linear([i for i, _ in left], [n for _, n in left]), right)


def _group(left: Sequence[Size], right: Sequence[Size]) -> tuple[int, int]:
    """How many leading axes of each shape have the same product, at least one of each."""
    a = b = 1
    while (p := index(product(left[:a]))) is not (q := index(product(right[:b]))):
        if a < len(left) and nonnegative(q - p):
            a += 1
        elif b < len(right) and nonnegative(p - q):
            b += 1
        else:
            return len(left), len(right)
    return a, b


def slice_start(start: IndexLike | None, extent: Size, out: Size, step: int) -> Index:
    """Where a slice begins, clamped as torch does. Raises :class:`NoAlgebra` where symbols leave that open."""
    first, whole = index(0 if start is None else start), index(extent)
    if nonnegative(-first - 1):
        return index(0) if nonnegative(-first - whole) else first + whole
    if nonnegative(first - whole):
        return whole
    if nonnegative(first) or size(ceildiv(whole - first, step)) == size(out):
        return first
    raise NoAlgebra(f"where a slice from {start} of an axis of extent {extent} begins depends on the symbols")


def wrapped(position: IndexLike, extent: Size) -> Index:
    """A position counted from the end where it is negative; torch has checked that it is within the axis."""
    where = index(position)
    if nonnegative(where):
        return where
    return where + extent if nonnegative(-where - 1) else where % extent
