"""Lays a constant out in the order in which a kernel reads it, so that it streams through the caches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from tpopt.backend.generated.parts import TERMS, Parts
from tpopt.backend.generated.plan import Pack, Sweep
from tpopt.backend.generated.sizes import extent, shape
from tpopt.ir import FloorDiv, Index, Iter, Mod, Read, index

Grid = npt.NDArray[np.int64]


def packed(pack: Pack, weight: torch.Tensor) -> torch.Tensor:
    """The constant ``weight`` in the layout of ``pack``, as a new tensor of ``pack.shape``."""
    return _taken(pack.read, _places(pack), pack.shape, weight)


def _taken(read: Read, places: Mapping[Iter, Grid], sizes: tuple[int, ...], weight: torch.Tensor) -> torch.Tensor:
    """What is read at places along axes of these sizes; some element where a place lies outside."""
    offsets: Grid = np.zeros((1,) * len(sizes), dtype=np.int64)
    stride = 1
    for where, size in zip(reversed(read.indices), reversed(shape(read.tensor)), strict=True):
        offsets = offsets + stride * np.clip(_value(where, places), 0, size - 1)
        stride *= size
    taken = torch.from_numpy(np.array(np.broadcast_to(offsets, sizes)))
    return weight.detach().reshape(-1)[taken.reshape(-1).to(weight.device)].reshape(sizes)


def split(parts: Parts, weight: torch.Tensor) -> torch.Tensor:
    """The constant ``weight`` tile by tile as three bf16 parts of each float32, ``uint16`` of its shape; bf16 as it is.

    Part 0 is the number cut off after eight significant bits, parts 1 and 2 are what remains. An infinite number is its
    own part 0, and the others are zero.
    """
    side, depth = parts.side, parts.depth
    *outside, blocks, _, _, _ = parts.shape
    # axes: those outside, blocks of terms, pairs of terms, rows or columns, the two terms of a pair
    sizes = (*outside, blocks, TERMS // 2, side.size, 2)
    axes = len(sizes)
    places = {
        i: _along(np.arange(n, dtype=np.int64), k, axes)
        for k, (i, n) in enumerate(zip(side.axes, outside, strict=True))
    }
    first = np.minimum(places[side.tile] * side.size, extent(side.tile) - side.size)
    places[side.tile] = first + _along(np.arange(side.size, dtype=np.int64), axes - 2, axes)
    term = _along(np.arange(blocks, dtype=np.int64) * TERMS, axes - 4, axes)
    term = term + _along(np.arange(0, TERMS, 2, dtype=np.int64), axes - 3, axes)
    term = term + _along(np.arange(2, dtype=np.int64), axes - 1, axes)
    places[depth] = term
    values = _taken(side.read, places, sizes, weight).float()
    inside = torch.from_numpy(np.array(np.broadcast_to(term < extent(depth), sizes)))
    values = torch.where(inside, values, torch.zeros((), dtype=values.dtype))
    cut = []
    for number in range(side.parts):
        bits = values.view(torch.int32)
        cut.append((bits >> 16).to(torch.int16))
        rest = values - (bits & -0x10000).view(torch.float32)
        values = torch.where(values.isinf(), 0.0, rest) if number == 0 else rest
    whole = torch.stack(cut, dim=-4)  # parts before pairs
    if side.left:  # rows of terms instead of pairs of terms side by side
        whole = whole.transpose(-3, -2)
    return whole.reshape(parts.shape).contiguous().view(torch.uint16)


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
