"""Convolutions and transposed convolutions in 1 to 3 dimensions, as one library call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from tpopt.ir.index import Iter
from tpopt.ir.terms import Reduce, Select
from tpopt.ir.to_torch.adjoint import match_adjoint
from tpopt.ir.to_torch.contract import contract, factors_of
from tpopt.ir.to_torch.guarded import is_zero
from tpopt.ir.to_torch.lowering import Lowering, Named, Recipe
from tpopt.ir.to_torch.windows import Match, Window, match_windows

_DIRECT: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolution(low: Lowering, term: Reduce) -> Recipe | None:
    """How to compute a sum of products that is a convolution; ``None`` when it is none."""
    if term.monoid != "sum" or not term.dtype.is_float:
        return None
    body, outer = term.bodies[0], None
    if isinstance(body, Select) and is_zero(body.outside):
        outer, body = body.guard, body.inside
    factors = factors_of(body)
    if len(factors) < 2:
        return None
    match = match_windows(low, term, factors, outer) or (None if outer else match_adjoint(low, term, factors))
    if match is None:
        return None
    found = match
    return Recipe((found.image, *found.others), lambda values: _build(low, term, found, values))


@dataclass(frozen=True)
class _Roles:
    """What each axis is to the library."""

    batch: tuple[Iter, ...]
    group: tuple[Iter, ...]
    channel: tuple[Iter, ...]
    out: tuple[Iter, ...]
    spatial: tuple[Window | Iter, ...]


def _build(low: Lowering, term: Reduce, match: Match, values: list[Named]) -> Named:
    image, weight = values[0], values[1]
    if len(values) > 2:
        weight = contract(low, values[1:], ())
    taps, along = [w.tap for w in match.windows], [w.along for w in match.windows]
    image = _sum_out(low, low.full(image, low.order((*image.axes, *along))), term.iters, weight.axes)
    weight = _sum_out(low, low.full(weight, low.order((*weight.axes, *taps))), term.iters, (*image.axes, *taps))
    roles = _roles(low, term.iters, match.windows, image, weight)
    spatial = [w.along if isinstance(w, Window) else w for w in roles.spatial]
    x = low.permute(image, (*roles.batch, *roles.group, *roles.channel, *spatial))
    kernel = [w.tap for w in roles.spatial if isinstance(w, Window)]
    transposed = match.windows[0].transposed
    first = (*roles.channel, *roles.out) if transposed else (*roles.out, *roles.channel)
    w = low.permute(weight, (*roles.group, *first, *kernel))
    loops = [s.loop if isinstance(s, Window) else s for s in roles.spatial]
    axes = (*roles.batch, *roles.group, *roles.out, *loops)
    result = low.emit(_call(low, roles, transposed, low.extents(axes)), [x, w], axes)
    return low.permute(result, low.order(axes))


def _sum_out(low: Lowering, value: Named, iters: Sequence[Iter], others: Sequence[Iter]) -> Named:
    """Sums the reduced axes that only this operand has."""
    dims = tuple(d for d, a in enumerate(value.axes) if a in iters and a not in others)
    if not dims:
        return value
    return low.emit(lambda t: t.sum(dims), [value], tuple(a for d, a in enumerate(value.axes) if d not in dims))


def _roles(low: Lowering, iters: Sequence[Iter], windows: Sequence[Window], image: Named, weight: Named) -> _Roles:
    along, taps = {w.along for w in windows}, {w.tap for w in windows}
    shared = [a for a in image.axes if a in weight.axes and a not in taps]
    out = [a for a in weight.axes if a not in image.axes and a not in taps]
    batch = [a for a in image.axes if a not in weight.axes and a not in along]
    group = [a for a in shared if a not in iters]
    last = max((low.rank(a) for a in (*out, *group)), default=float("inf"))
    trailing = [a for a in batch if low.rank(a) > last][-(3 - len(windows)) :] if len(windows) < 3 else []
    places: list[tuple[float, Window | Iter]] = [
        *((low.rank(w.loop), w) for w in windows),
        *((low.rank(a), a) for a in trailing),
    ]
    return _Roles(
        tuple(a for a in batch if a not in trailing),
        tuple(group),
        tuple(a for a in shared if a in iters),
        tuple(out),
        tuple(s for _, s in sorted(places, key=lambda p: p[0])),
    )


def _call(low: Lowering, roles: _Roles, transposed: bool, shape: tuple[int, ...]) -> Callable[[Tensor, Tensor], Tensor]:
    n, g, c, o = (prod(low.extents(x)) for x in (roles.batch, roles.group, roles.channel, roles.out))
    sizes = low.extents(w.along if isinstance(w, Window) else w for w in roles.spatial)
    kernel = tuple(low.extents([w.tap])[0] if isinstance(w, Window) else 1 for w in roles.spatial)
    stride = tuple(w.stride if isinstance(w, Window) else 1 for w in roles.spatial)
    dilation = tuple(w.dilation if isinstance(w, Window) else 1 for w in roles.spatial)
    rank = len(roles.spatial)
    if not transposed:

        def direct(x: Tensor, w: Tensor) -> Tensor:
            image, weight = x.reshape(n, g * c, *sizes), w.reshape(g * o, c, *kernel)
            return _DIRECT[rank](image, weight, stride=stride, dilation=dilation, groups=g).reshape(shape)

        return direct
    crops = [(w.offset, low.extents([w.loop])[0]) if isinstance(w, Window) else None for w in roles.spatial]

    def backward(x: Tensor, w: Tensor) -> Tensor:
        image, weight = x.reshape(n, g * c, *sizes), w.reshape(g * c, o, *kernel)
        whole = _TRANSPOSED[rank](image, weight, stride=stride, dilation=dilation, groups=g)
        return _crop(whole, crops).reshape(shape)

    return backward


def _crop(whole: Tensor, crops: Sequence[tuple[int, int] | None]) -> Tensor:
    """Takes ``[offset, offset + extent)`` of each spatial axis; zeros beyond what there is."""
    pads: list[int] = []
    for crop, present in zip(crops, whole.shape[2:], strict=True):
        offset, extent = (0, present) if crop is None else crop
        pads = [-offset, offset + extent - present, *pads]
    return torch.constant_pad_nd(whole, pads, 0) if any(pads) else whole
