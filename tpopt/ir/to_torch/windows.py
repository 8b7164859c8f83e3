"""Finds the sliding windows of a sum of products: where a convolution hides in index arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tpopt.ir.index import Atom, FloorDiv, Index, IndexLike, Iter, Mod, add, index, map_atoms, multiply
from tpopt.ir.terms import Bound, Guard, Read, Reduce, Scalar, Select, const
from tpopt.ir.to_torch.guarded import Guarded, Triple, guarded, iterators
from tpopt.ir.to_torch.indexing import affine
from tpopt.ir.to_torch.lowering import Lowering
from tpopt.ir.to_torch.setting import replace_atoms


@dataclass(frozen=True)
class Window:
    """One axis of the image read at ``stride * loop + dilation * tap + offset``.

    A ``transposed`` axis is read at ``(loop - dilation * tap + offset) / stride`` where that is whole. ``along`` walks
    the image: the padded one, or for a transposed axis the image itself.
    """

    axis: int
    loop: Iter
    tap: Iter
    stride: int
    dilation: int
    offset: int
    transposed: bool
    along: Iter
    atom: FloorDiv | None = None


@dataclass(frozen=True)
class Match:
    """``image`` is read along the windows' ``along`` axes; ``others`` are the remaining factors (the weights)."""

    image: Scalar
    others: tuple[Scalar, ...]
    windows: tuple[Window, ...]


def match_windows(low: Lowering, term: Reduce, factors: Sequence[Scalar], outer: Guard | None) -> Match | None:
    """The convolution in a product whose factors are summed (where the ``outer`` guard holds), or ``None``."""
    for position, factor in enumerate(factors):
        others = [f for n, f in enumerate(factors) if n != position]
        image = factor if outer is None else Select(outer, factor, const(0, factor.dtype))
        found = _match(low, term.iters, image, others)
        if found is not None:
            return found
    return None


def _match(low: Lowering, taps: Sequence[Iter], image: Scalar, others: list[Scalar]) -> Match | None:
    """Reverses taps until every window slides forwards, then reads the image along its own axes."""
    for _ in range(len(taps) + 1):
        part = guarded(image)
        if part is None:
            return None
        known = {i for f in others for i in low.free(f)}
        windows = _windows(low, part.read, taps, known)
        if not windows or len(windows) > 3:
            return None
        backwards = next((w for w in windows if w.dilation < 0), None)
        if backwards is None:
            along = _along(part, windows)
            return None if along is None else Match(along, tuple(others), tuple(windows))
        tap = backwards.tap
        mapping: dict[Atom, IndexLike] = {tap: add(low.setting.size(tap.extent) - 1, multiply(tap, -1))}
        image, others = replace_atoms(image, mapping), [replace_atoms(f, mapping) for f in others]
    return None


def _windows(low: Lowering, read: Read, taps: Sequence[Iter], known: set[Iter]) -> list[Window]:
    used = [iterators(i) for i in read.indices]
    shape = low.setting.shape(read.tensor)
    found = []
    for axis, where in enumerate(read.indices):
        elsewhere = set().union(*(u for n, u in enumerate(used) if n != axis))
        window = _window(axis, where, shape[axis], taps, known)
        if window is not None and not {window.loop, window.tap} & elsewhere:
            found.append(window)
    if not any(w.transposed for w in found):
        return found
    if any(not w.transposed and w.stride != 1 for w in found):
        return []
    return [w if w.transposed else _as_transposed(w, shape[w.axis]) for w in found]


def _as_transposed(w: Window, extent: int) -> Window:
    """``loop + dilation * tap + offset`` seen as a division by 1."""
    along = Iter(w.along.name, extent)
    return replace(w, dilation=-w.dilation, transposed=True, along=along)


def _window(axis: int, where: Index, extent: int, taps: Sequence[Iter], known: set[Iter]) -> Window | None:
    inner, division, shift = where, None, 0
    rest = [m for m in where.terms if m[1]]
    if len(rest) == 1 and rest[0][0] == 1 and len(rest[0][1]) == 1 and isinstance(rest[0][1][0], FloorDiv):
        division, shift = rest[0][1][0], where.offset
        inner = division.numerator
    flat = affine(inner)
    if flat is None or len(flat.coefficients) != 2:
        return None
    (loop, a), (tap, b) = sorted(flat.coefficients, key=lambda c: c[0] in taps)
    if tap not in taps or loop in taps or tap not in known or loop in known or a <= 0:
        return None
    name = f"{loop.name}~{tap.name}"
    if division is None:
        span = flat.span
        return Window(axis, loop, tap, a, b, flat.offset, False, Iter(name, span[1] - span[0] + 1))
    stride = division.denominator.constant
    if stride is None or a != 1:
        return None
    return Window(axis, loop, tap, stride, -b, flat.offset + stride * shift, True, Iter(name, extent), division)


def _along(part: Guarded, windows: Sequence[Window]) -> Scalar | None:
    """The guarded read over the windows' own axes; ``None`` when a bound does not translate."""
    indices = list(part.read.indices)
    for w in windows:
        indices[w.axis] = add(w.along, 0 if w.transposed else w.offset)
    bounds: list[Triple] = []
    divisible = set()
    for bound in part.bounds:
        translated = _translate(bound, windows)
        if translated is None:
            return None
        if isinstance(translated, Window):
            divisible.add(translated)
        else:
            bounds.append(translated)
    if any(w.atom is not None and w not in divisible for w in windows):
        return None
    return part.at(indices, bounds)


def _translate(bound: Bound, windows: Sequence[Window]) -> Triple | Window | None:
    """A bound over the ``along`` axes; the window itself for the bound that says its division is whole."""
    value = bound.value
    for w in windows:
        if w.atom is not None:
            remainder = Mod(w.atom.numerator, w.atom.denominator)
            if value.terms == ((1, (remainder,)),):
                return w if bound.low.constant == 0 and bound.high.constant == 1 else None
            shift = add(w.along, -((w.offset - w.atom.numerator.offset) // w.stride))
            value = _replace(value, w.atom, shift)
        if _mentions(value, w):
            moved = add(
                multiply(w.loop, 1 if w.transposed else w.stride),
                multiply(w.tap, -w.dilation if w.transposed else w.dilation),
            )
            position = add(multiply(w.along, w.stride), -w.offset) if w.transposed else index(w.along)
            value = add(value, multiply(moved, -1), position)
        if _mentions(value, w):
            return None
    return bound.low, value, bound.high


def _replace(where: Index, atom: Atom, new: IndexLike) -> Index:
    return map_atoms(where, lambda a: new if a is atom else None)


def _mentions(where: Index, w: Window) -> bool:
    return bool({w.loop, w.tap} & iterators(where))
