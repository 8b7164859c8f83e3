"""Transposed convolutions written over the taps that reach each output: ``x[(y+p)//s - t] * w[(y+p)%s + s*t]``.

Windows ``m = (y+p)//s - t`` and taps ``r = (y+p)%s + s*t`` are all pairs with ``s*m + r = y + p``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tpopt.ir.index import Index, Iter, Mod, add, index, multiply
from tpopt.ir.terms import Reduce, Scalar
from tpopt.ir.to_torch.guarded import Guarded, Triple, guarded, iterators
from tpopt.ir.to_torch.indexing import affine
from tpopt.ir.to_torch.lowering import Lowering
from tpopt.ir.to_torch.regroup import without_mods
from tpopt.ir.to_torch.windows import Match, Window


@dataclass(frozen=True)
class _Axis:
    """Axes of image and weight that together walk ``window.stride * along + tap = loop + offset``."""

    window: Window
    weight_axis: int
    inner: frozenset[Iter]


def match_adjoint(low: Lowering, term: Reduce, factors: Sequence[Scalar]) -> Match | None:
    """The transposed convolution in a product of guarded reads, or ``None``."""
    reads = [guarded(f) for f in factors]
    for w, weight in enumerate(reads):
        if weight is None or not any(isinstance(a, Mod) for i in weight.read.indices for a in i.atoms):
            continue
        for x, image in enumerate(reads):
            if x == w or image is None:
                continue
            others = [f for n, f in enumerate(factors) if n not in (w, x)]
            found = _match(low, term, image, weight, others)
            if found is not None:
                return found
    return None


def _match(low: Lowering, term: Reduce, image: Guarded, weight: Guarded, others: Sequence[Scalar]) -> Match | None:
    axes = _axes(low, term, image, weight)
    if not 1 <= len(axes) <= 3:
        return None
    inner = frozenset(i for a in axes for i in (*a.inner, a.window.loop))
    x_indices, w_indices = list(image.read.indices), list(weight.read.indices)
    for a in axes:
        x_indices[a.window.axis], w_indices[a.weight_axis] = index(a.window.along), index(a.window.tap)
    left = _moved(image, [(image.read.indices[a.window.axis], a.window.along) for a in axes])
    right = _moved(weight, [(weight.read.indices[a.weight_axis], a.window.tap) for a in axes])
    still = [*(iterators(i) for i in (*x_indices, *w_indices)), *(set(low.free(f)) for f in others)]
    still += [iterators(v) for bounds in (left, right) for b in bounds for v in b]
    if any(inner & used for used in still):
        return None
    windows = tuple(a.window for a in axes)
    return Match(image.at(x_indices, left), (weight.at(w_indices, right), *others), windows)


def _axes(low: Lowering, term: Reduce, image: Guarded, weight: Guarded) -> list[_Axis]:
    shapes = [low.setting.shape(g.read.tensor) for g in (image, weight)]
    found: list[_Axis] = []
    for n, at_image in enumerate(image.read.indices):
        for k, at_weight in enumerate(weight.read.indices):
            axis = _axis(term, at_image, at_weight)
            if axis is None:
                continue
            loop, stride, offset, inner = axis
            if stride * prod(low.extents(inner)) < shapes[1][k]:
                continue
            along, tap = Iter(f"{loop.name}~{n}", shapes[0][n]), Iter(f"{loop.name}~{n}.{k}", shapes[1][k])
            found.append(_Axis(Window(n, loop, tap, stride, 1, offset, True, along), k, frozenset(inner)))
    return found


def _axis(term: Reduce, image: Index, weight: Index) -> tuple[Iter, int, int, set[Iter]] | None:
    """``(loop, stride, offset, reduced)`` where ``stride * image + weight`` is ``loop + offset``."""
    divisors = [a.denominator.constant for a in weight.atoms if isinstance(a, Mod)]
    stride = divisors[0] if len(divisors) == 1 else None if divisors else 1
    if stride is None:
        return None
    inner = {i for i in iterators(image) | iterators(weight) if i in term.iters}
    joint = affine(without_mods(add(multiply(image, stride), weight)))
    if joint is None or len(joint.coefficients) != 1 or len(inner) > 1:
        return None
    loop, coefficient = joint.coefficients[0]
    if coefficient != 1 or loop in term.iters or loop not in iterators(image):
        return None
    return loop, stride, joint.offset, inner


def _moved(part: Guarded, moves: Sequence[tuple[Index, Iter]]) -> list[Triple]:
    """Bounds on an index that is replaced, as bounds on its replacement."""
    moved: list[Triple] = []
    for bound in part.bounds:
        shift = next(((new, s) for old, new in moves if (s := (bound.value - old).constant) is not None), None)
        value = bound.value if shift is None else add(shift[0], shift[1])
        moved.append((bound.low, value, bound.high))
    return moved
