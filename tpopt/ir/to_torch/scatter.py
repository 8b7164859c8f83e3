"""Scatter stages: each write becomes a position in the flattened output, with one more place for dropped writes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from tpopt.ir.dtypes import DType
from tpopt.ir.stages import Scatter
from tpopt.ir.to_torch.indexing import index_value, mask
from tpopt.ir.to_torch.lowering import Lowering, Named
from tpopt.ir.to_torch.scalar import evaluate
from tpopt.ir.to_torch.setting import Setting, specialise
from tpopt.ir.to_torch.tape import Plan, Tape

Write = Callable[[Tensor, Tensor, Tensor], Tensor]
_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}


def lower_scatter(stage: Scatter, setting: Setting) -> Plan:
    """The plan of a scatter. ``set`` keeps the last writer in row-major order of the loops, on every device."""
    tape = Tape()
    found = specialise(stage, setting)
    low = Lowering(tape, setting, found.loops)
    shape = setting.shape(stage.base)
    base = tape.load(stage.base.name)
    extents = low.extents(found.loops)
    if 0 in extents or 0 in shape:
        return tape.finish([base])
    position = low.literal(0, DType.I64)
    for where, extent in zip(found.at, shape, strict=True):
        position = low.pointwise(_times(extent), position, fold=True)
        position = low.pointwise(torch.add, position, index_value(low, where), fold=True)
    if found.guard is not None:
        position = low.pointwise(_dropped(prod(shape)), position, mask(low, found.guard), fold=True)
    value = evaluate(low, found.values)[0]
    write = _WRITES.get(stage.op, _reduced(_REDUCTIONS.get(stage.op, "")))

    def run(old: Tensor, at: Tensor, new: Tensor) -> Tensor:
        flat = torch.cat([old.reshape(-1), old.new_zeros(1)])
        return write(flat, at.reshape(-1), new.reshape(-1))[:-1].reshape(shape)

    whole = [low.full(v, found.loops) for v in (position, value)]
    return tape.finish([low.emit(run, [Named(base, ()), *whole], ()).slot])


def _times(extent: int) -> Callable[[Tensor], Tensor]:
    return lambda t: t * extent


def _dropped(place: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda position, valid: torch.where(valid, position, place)


def _set(flat: Tensor, at: Tensor, value: Tensor) -> Tensor:
    """The last writer of each place wins, whatever order the device works in."""
    number = torch.arange(at.numel(), device=at.device)
    last = torch.full_like(flat, -1, dtype=torch.int64).scatter_reduce(0, at, number, "amax")
    return torch.where(last >= 0, value[last.clamp_min(0)], flat)


def _add(flat: Tensor, at: Tensor, value: Tensor) -> Tensor:
    if flat.dtype is torch.bool:
        return flat.to(torch.int64).index_add(0, at, value.to(torch.int64)) > 0
    return flat.index_add(0, at, value)


def _reduced(name: str) -> Write:
    def run(flat: Tensor, at: Tensor, value: Tensor) -> Tensor:
        if flat.dtype is torch.bool:
            return flat.to(torch.uint8).scatter_reduce(0, at, value.to(torch.uint8), name) != 0
        if flat.is_complex():
            return _one_by_one(flat, at, value)
        return flat.scatter_reduce(0, at, value, name)

    return run


def _one_by_one(flat: Tensor, at: Tensor, value: Tensor) -> Tensor:
    """Complex products, which torch scatters nowhere: repeated rounds of writers with distinct places."""
    left = torch.arange(at.numel(), device=at.device)
    while left.numel():
        first = torch.full_like(flat, at.numel(), dtype=torch.int64).scatter_reduce(0, at[left], left, "amin")
        now = first[first < at.numel()]
        factor = torch.ones_like(flat).index_put((at[now],), value[now])
        flat = flat * factor
        left = left[~torch.isin(left, now)]
    return flat


_WRITES: dict[str, Write] = {"set": _set, "add": _add}
