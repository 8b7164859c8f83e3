"""Lays a constant out in the order in which a kernel reads it, so that it streams through the caches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from tpopt.backend.generated.plan import Pack, Sweep
from tpopt.backend.generated.sizes import extent, shape
from tpopt.ir import FloorDiv, Index, Iter, Mod, index

Grid = npt.NDArray[np.int64]


def packed(pack: Pack, weight: torch.Tensor) -> torch.Tensor:
    """The constant ``weight`` in the layout of ``pack``, as a new tensor of ``pack.shape``."""
    places = _places(pack)
    offsets: Grid = np.zeros((1,) * len(pack.shape), dtype=np.int64)
    stride = 1
    for where, size in zip(reversed(pack.read.indices), reversed(shape(pack.read.tensor)), strict=True):
        offsets = offsets + stride * np.clip(_value(where, places), 0, size - 1)
        stride *= size
    taken = torch.from_numpy(np.array(np.broadcast_to(offsets, pack.shape)))
    return weight.detach().reshape(-1)[taken.reshape(-1).to(weight.device)].reshape(pack.shape)


def _places(pack: Pack) -> dict[Iter, Grid]:
    """The value of each iterator at every place of the packed constant."""
    axes = len(pack.shape)
    found: dict[Iter, Grid] = {}
    axis = 0
    for iterator in pack.tiles:
        sweep = pack.nest.sweeps.get(iterator, Sweep())
        size = extent(iterator)
        start = np.arange(pack.shape[axis], dtype=np.int64) * sweep.span
        if size >= sweep.span:
            start = np.minimum(start, size - sweep.span)
        found[iterator] = _along(start, axis, axes)
        axis += 1
    for iterator in pack.reduced:
        found[iterator] = _along(np.arange(pack.shape[axis], dtype=np.int64), axis, axes)
        axis += 1
    for iterator in pack.steps:
        lanes = pack.nest.sweeps[iterator].lanes
        found[iterator] = found[iterator] + _along(np.arange(pack.shape[axis], dtype=np.int64) * lanes, axis, axes)
        axis += 1
    if pack.lane is not None:
        found[pack.lane] = found[pack.lane] + _along(np.arange(pack.shape[axis], dtype=np.int64), axis, axes)
    return found


def _along(values: Grid, axis: int, axes: int) -> Grid:
    return values.reshape([len(values) if n == axis else 1 for n in range(axes)])


def _value(where: Index, places: Mapping[Iter, Grid]) -> Grid:
    total: Grid = np.zeros((), dtype=np.int64)
    for coefficient, atoms in where.terms:
        part: Grid = np.asarray(coefficient, dtype=np.int64)
        for atom in atoms:
            if isinstance(atom, Iter):
                part = part * places[atom]
            else:
                assert isinstance(atom, (FloorDiv, Mod)), "a constant's place never depends on data"
                top, bottom = _value(atom.numerator, places), _value(index(atom.denominator), places)
                part = part * (top // bottom if isinstance(atom, FloorDiv) else top % bottom)
        total = total + part
    return total
