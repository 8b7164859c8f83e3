"""``tensor[indices]`` as views where the indices are affine, by index tensors elsewhere.

An index that leaves the tensor (a guard protects it) is served by padding, or by clamping index tensors; what it
yields there is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch

from tpopt.ir.bounds import within
from tpopt.ir.index import Index, Iter, index
from tpopt.ir.terms import Number, Read
from tpopt.ir.to_torch.indexing import Affine, affine, index_value
from tpopt.ir.to_torch.lowering import Lowering, Named
from tpopt.ir.to_torch.regroup import merge_dimensions
from tpopt.ir.to_torch.views import Dim, affine_view, unordered_view

_MOST_PADDING = 4
"""A padded copy may be this many times larger than the tensor or the view; beyond, index tensors read less."""
_SMALL = 1 << 16


def lower_read(
    low: Lowering, read: Read, fill: Number = 0, windows: Mapping[int, tuple[int, int]] | None = None
) -> Named:
    """The values of a read over the iterators it depends on.

    ``windows`` limits the positions that count on some axes (half-open); outside them, and outside the tensor, the
    value is ``fill``. It needs affine indices on every axis.
    """
    shape = low.setting.shape(read.tensor)
    slot = low.tape.load(read.tensor.name)
    if not shape:
        return Named(slot, ())
    if 0 in shape:
        return low.literal(fill, read.dtype)
    if windows is None and any(affine(i) is None for i in read.indices):
        return _regrouped(low, read, slot, shape, fill)
    found = [affine(i) for i in read.indices]
    return _views(low, read, slot, shape, [a for a in found if a is not None], windows or {}, fill)


def affine_axes(read: Read) -> bool:
    """Whether every index of a (specialised) read is affine."""
    return all(affine(i) is not None for i in read.indices)


def _views(
    low: Lowering,
    read: Read,
    slot: int,
    shape: tuple[int, ...],
    found: list[Affine],
    windows: Mapping[int, tuple[int, int]],
    fill: Number,
) -> Named:
    dims = [Dim(a, *windows.get(d, (0, n))) for d, (a, n) in enumerate(zip(found, shape, strict=True))]
    padded = prod(a.span[1] - a.span[0] + 1 for a in found)
    used = prod(low.extents(dict.fromkeys(i for a in found for i, _ in a.coefficients)))
    if not windows and padded > _MOST_PADDING * max(prod(shape), used) + _SMALL:
        return _gathered(low, read, slot, shape, [index(i) for i in read.indices], fill)
    return affine_view(low, slot, shape, dims, fill, read.dtype)


def _regrouped(low: Lowering, read: Read, slot: int, shape: tuple[int, ...], fill: Number) -> Named:
    """Quotients and remainders of one position become a reshape; the rest is gathered."""
    new_shape, indices = merge_dimensions(shape, read.indices)
    if new_shape != shape:
        source = low.tape.emit(lambda t: t.reshape(new_shape), slot)
        low.note(prod(shape))
    else:
        source = slot
    if all(affine(i) is not None for i in indices):
        dims = [Dim(a, 0, n) for a, n in zip(map(affine, indices), new_shape, strict=True) if a is not None]
        return affine_view(low, source, new_shape, dims, fill, read.dtype)
    return _gathered(low, read, source, new_shape, indices, fill)


def _gathered(
    low: Lowering, read: Read, slot: int, shape: tuple[int, ...], indices: list[Index], fill: Number
) -> Named:
    """Advanced indexing on the axes that need it, views on the others; axes that share iterators go together."""
    general = [d for d, i in enumerate(indices) if not _plain(i, shape[d])]
    values = {d: _clamped(low, indices[d], shape[d]) for d in general}
    axes = {d: set(values[d].axes) for d in general}
    changed = True
    while changed:
        busy = set().union(*axes.values()) if axes else set()
        changed = False
        for d, where in enumerate(indices):
            if d not in axes and any(it in busy for it, _ in _coefficients(where)):
                values[d] = _clamped(low, where, shape[d])
                axes[d], changed = set(values[d].axes), True
    rest = {d: affine(i) for d, i in enumerate(indices) if d not in axes}
    holders = {d: Iter(f"@{d}", shape[d]) for d in axes}
    dims = []
    for d, n in enumerate(shape):
        kept = rest.get(d)
        dims.append(Dim(Affine(((holders[d], 1),), 0) if kept is None else kept, 0, n))
    current = unordered_view(low, slot, shape, dims, fill, read.dtype)
    for group in _groups(axes):
        current = _select(low, current, [holders[d] for d in group], [values[d] for d in group])
    return low.permute(current, low.order(current.axes))


def _coefficients(where: Index) -> tuple[tuple[Iter, int], ...]:
    found = affine(where)
    return () if found is None else found.coefficients


def _plain(where: Index, extent: int) -> bool:
    found = affine(where)
    return found is not None and found.span[0] >= 0 and found.span[1] < extent


def _clamped(low: Lowering, where: Index, extent: int) -> Named:
    value = index_value(low, where)
    known = low.tape.known(value.slot)
    safe = (
        within(where, 0, extent)
        if known is None
        else known.numel() == 0 or (int(known.min()) >= 0 and int(known.max()) < extent)
    )
    return value if safe else low.pointwise(lambda t: t.clamp(0, extent - 1), value, fold=True)


def _groups(axes: Mapping[int, set[Iter]]) -> list[list[int]]:
    """Connected components of dimensions that share iterators, in order."""
    groups: list[tuple[list[int], set[Iter]]] = []
    for d in sorted(axes):
        touching = [g for g in groups if g[1] & axes[d]]
        merged = (sorted([d, *(x for g in touching for x in g[0])]), set(axes[d]).union(*(g[1] for g in touching)))
        groups = [g for g in groups if g not in touching] + [merged]
    return [members for members, _ in groups]


def _select(low: Lowering, current: Named, holders: list[Iter], values: list[Named]) -> Named:
    """Replaces the holders' axes by index tensors."""
    rest = tuple(a for a in current.axes if a not in holders)
    union = low.order(a for v in values for a in v.axes)
    if len(holders) == 1:
        return _select_one(low, current, holders[0], values[0])
    front = low.permute(current, (*holders, *rest))
    slots = [low.align(v, union) for v in values]
    return low.emit(lambda t, *where: t[where], [front, *slots], (*union, *rest))


def _select_one(low: Lowering, current: Named, holder: Iter, value: Named) -> Named:
    position = current.axes.index(holder)
    sizes = low.extents(value.axes)

    def run(t: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        picked = t.index_select(position, where.reshape(-1))
        return picked if len(sizes) == 1 else picked.reshape((*t.shape[:position], *sizes, *t.shape[position + 1 :]))

    axes = (*current.axes[:position], *value.axes, *current.axes[position + 1 :])
    return low.emit(run, [current, value], axes)
