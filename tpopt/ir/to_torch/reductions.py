"""The monoids over dimensions of a tensor, and over windows that a view repeats."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from tpopt.ir.index import Iter
from tpopt.ir.terms import Reduce
from tpopt.ir.to_torch.lowering import Lowering, Named
from tpopt.ir.to_torch.tape import filled

Dims: TypeAlias = tuple[int, ...]
_WINDOW = 64
"""A window of at most this many elements is reduced slice by slice, so that its overlapping view is never walked."""


def _sum(t: Tensor, dims: Dims) -> Tensor:
    return t.any(dims) if t.dtype is torch.bool else t.sum(dims, dtype=t.dtype)


def _prod(t: Tensor, dims: Dims) -> Tensor:
    if t.dtype is torch.bool:
        return t.all(dims)
    for d in sorted(dims, reverse=True):
        t = t.prod(d, dtype=t.dtype)
    return t


_PLAIN: dict[str, Callable[[Tensor, Dims], Tensor]] = {
    "sum": _sum,
    "prod": _prod,
    "max": lambda t, dims: t.amax(dims),
    "min": lambda t, dims: t.amin(dims),
    "any": lambda t, dims: t.any(dims),
    "all": lambda t, dims: t.all(dims),
}
_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "prod": torch.mul,
    "max": torch.maximum,
    "min": torch.minimum,
    "any": torch.logical_or,
    "all": torch.logical_and,
}


def identity(monoid: str, pick: int, dtype: torch.dtype) -> bool | int | float:
    """What an empty range yields."""
    if pick == 1 and monoid in ("argmax", "argmin"):
        return _highest(dtype)
    if pick == 1:
        return 0
    if monoid in ("max", "argmax", "logsumexp"):
        return _lowest(dtype)
    if monoid in ("min", "argmin"):
        return _highest(dtype)
    return {"prod": 1, "all": True, "any": False}.get(monoid, 0)


def _lowest(dtype: torch.dtype) -> int | float | bool:
    if dtype is torch.bool:
        return False
    return -float("inf") if dtype.is_floating_point else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> int | float | bool:
    if dtype is torch.bool:
        return True
    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max


def empty(low: Lowering, term: Reduce) -> Named:
    """The reduction over an empty range."""
    dtype = low.setting.torch_dtype(term.dtype)
    return Named(low.tape.constant(filled(identity(term.monoid, term.pick, dtype), dtype, low.device)), ())


def lower_reduce(low: Lowering, term: Reduce, bodies: list[Named]) -> Named:
    """The ``pick``-th component of a reduction whose bodies are evaluated."""
    outer = low.order(a for b in bodies for a in b.axes if a not in term.iters)
    if term.monoid in _PLAIN:
        return _plain(low, term.monoid, bodies[0], term.iters, outer)
    axes = (*outer, *low.order(term.iters))
    full = [low.full(b, axes) for b in bodies]
    low.note(prod(low.extents(axes)))
    run, pick, kept = _TUPLES[term.monoid], term.pick, len(outer)
    return low.emit(lambda *ts: run([_flat(t, kept) for t in ts], pick), full, outer)


def _flat(t: Tensor, kept: int) -> Tensor:
    """Merges the reduced dimensions (the last ones) into one."""
    return t.reshape(*t.shape[:kept], -1)


def _plain(low: Lowering, monoid: str, body: Named, iters: tuple[Iter, ...], outer: tuple[Iter, ...]) -> Named:
    missing = [i for i in iters if i not in body.axes]
    if missing:
        body = low.full(body, low.order((*body.axes, *missing)))
    dims = tuple(body.axes.index(i) for i in iters)
    over, pairwise = _PLAIN[monoid], _PAIRWISE[monoid]

    def run(t: Tensor) -> Tensor:
        if not _overlaps(t, dims):
            return over(t, dims)
        for d in sorted(dims, reverse=True):
            t = reduce(pairwise, t.unbind(d))
        return t

    return low.emit(run, [body], outer)


def _overlaps(t: Tensor, dims: Dims) -> bool:
    """Whether a small window over ``dims`` visits elements again and again (a view, not an array)."""
    if prod(t.shape[d] for d in dims) > _WINDOW or t.dtype is torch.bool:
        return False
    reach = sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) + 1
    return 2 * reach <= t.numel()


def _argmax(parts: list[Tensor], pick: int) -> Tensor:
    value, place = parts
    best = value.detach().amax(-1, keepdim=True)
    return _chosen(value, place, best, pick)


def _argmin(parts: list[Tensor], pick: int) -> Tensor:
    value, place = parts
    best = value.detach().amin(-1, keepdim=True)
    return _chosen(value, place, best, pick)


def _chosen(value: Tensor, place: Tensor, best: Tensor, pick: int) -> Tensor:
    """The smallest position among the best values (``best`` is NaN where any is)."""
    wins = value == best
    if value.is_floating_point():
        wins |= value.isnan() & best.isnan()
    last = torch.iinfo(place.dtype).max
    smallest, where = place.masked_fill(~wins, last).min(-1)
    return smallest if pick == 1 else value.gather(-1, where.unsqueeze(-1)).squeeze(-1)


def _welford(parts: list[Tensor], pick: int) -> Tensor:
    mean, m2, count = parts
    total = count.sum(-1, dtype=count.dtype)
    if pick == 2:
        return total
    weight = count.to(mean.dtype)
    whole = total.to(mean.dtype)
    merged = (mean * weight).sum(-1) / whole.masked_fill(whole == 0, 1)
    if pick == 0:
        return merged
    return m2.sum(-1) + (weight * (mean - merged.unsqueeze(-1)).square()).sum(-1)


def _logsumexp(parts: list[Tensor], pick: int) -> Tensor:
    """Terms at the maximum are not rescaled, so that infinite maxima stay defined."""
    top, total = parts
    best = top.amax(-1)
    if pick == 0:
        return best
    highest = best.unsqueeze(-1)
    below = (top - highest).masked_fill(top == highest, 0)
    return (total * below.exp()).sum(-1)


_TUPLES: dict[str, Callable[[list[Tensor], int], Tensor]] = {
    "argmax": _argmax,
    "argmin": _argmin,
    "welford": _welford,
    "logsumexp": _logsumexp,
}
