"""Convolutions recognised in contractions, direct and transposed, by solving for their parameters and rebuilding them.

A guess of stride, padding and dilation is read off the index expressions; it counts only when the indices and guards
that these parameters imply are the very terms of the contraction. So a match is a proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpopt.backend.library.contraction import Contraction, Factor
from tpopt.frontend.windows import Cover, Window
from tpopt.ir import FloorDiv, Guard, Index, Iter, guard, index

_MOST_DILATION = 16


@dataclass(frozen=True)
class Geometry:
    """A convolution of ``x[n, channels, space...]`` with a weight in torch's layout; padding is symmetric."""

    transposed: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class _Axis:
    """One spatial axis: extents of input, output and taps, the output's iterator, the tap's iterator or its value 0."""

    extent: int
    count: int
    taps: int
    loop: Iter
    tap: Index


def match_geometry(match: Contraction) -> Geometry | str:
    """The convolution that ``left`` (data) and ``right`` (weight) form, or why they form none."""
    x, w, loops = match.left, match.right, match.loops
    rank = w.tensor.rank - 2
    if rank not in (1, 2, 3) or x.tensor.rank != rank + 2 or len(loops) != rank + 2:
        return "operands are not shaped as a batched convolution"
    if w.bounds and not _only_taps(w):
        return "the weight is guarded in another way"
    if any(not isinstance(e, int) for e in (*x.tensor.shape[1:], *w.tensor.shape, *(i.extent for i in loops[1:]))):
        return "its sizes are not static"
    if x.indices[0] is not index(loops[0]) and not (x.tensor.shape[0] == 1 and x.indices[0].constant == 0):
        return "its batch axis is indexed"
    direct = _direct(match, rank)
    return direct if isinstance(direct, Geometry) else _transposed(match, rank, direct)


def _only_taps(w: Factor) -> bool:
    return all(set(b.value.atoms) <= {a for i in w.indices[2:] for a in i.atoms} for b in w.bounds)


def _static(value: object) -> int:
    assert isinstance(value, int)
    return value


def _reduced(where: Index, reduced: tuple[Iter, ...]) -> bool:
    return where.constant == 0 or any(where is index(i) for i in reduced)


def _direct(match: Contraction, rank: int) -> Geometry | str:
    x, w, loops = match.left, match.right, match.loops
    channel, taps = w.indices[1], w.indices[2:]
    if w.indices[0] is not index(loops[1]) or not all(_reduced(i, match.reduced) for i in (channel, *taps)) or w.bounds:
        return "the weight is not read as [filter, channel, taps]"
    channels, per_group = _static(x.tensor.shape[1]), _static(w.tensor.shape[1])
    filters = _static(w.tensor.shape[0])
    groups = channels // per_group
    if channels % per_group or filters % groups:
        return "channels and filters do not fall into groups"
    expected = channel if groups == 1 else index(loops[1]) // (filters // groups) * per_group + channel
    if x.indices[1] is not expected:
        return "its channels are read in another order"
    strides, paddings, dilations = [], [], []
    for k in range(rank):
        where, loop, tap = x.indices[2 + k], loops[2 + k], taps[k]
        stride = where.coefficient(loop).constant or 1
        step = where.coefficient(tap.atoms[0]).constant if tap.atoms else 1
        if stride < 1 or step is None or step < 1:
            return "a spatial index is not stride*loop + dilation*tap - padding"
        extents = (_static(x.tensor.shape[2 + k]), _static(loop.extent), _static(w.tensor.shape[2 + k]))
        window = Window(*extents, stride, step, -where.offset)
        if where is not window.position(loop, tap):
            return "a spatial index is not stride*loop + dilation*tap - padding"
        if (extents[0] + 2 * window.before - step * (extents[2] - 1) - 1) // stride + 1 != extents[
            1
        ] or window.before < 0:
            return "its padding is not the same before and behind"
        strides.append(stride)
        paddings.append(window.before)
        dilations.append(step)
    if not _same_guard(x, _inside(match, rank, strides, paddings, dilations)):
        return "its guard is not that of padding by zeros"
    return Geometry(False, tuple(strides), tuple(paddings), tuple(dilations), (0,) * rank, groups)


def _inside(match: Contraction, rank: int, strides: list[int], paddings: list[int], dilations: list[int]) -> Guard:
    x, w, loops = match.left, match.right, match.loops
    along = [
        Window(x.tensor.shape[2 + k], loops[2 + k].extent, w.tensor.shape[2 + k], strides[k], dilations[k], paddings[k])
        for k in range(rank)
    ]
    return guard(*(v.inside(loops[2 + k], w.indices[2 + k]) for k, v in enumerate(along)))


def _same_guard(factor: Factor, expected: Guard) -> bool:
    return set(factor.bounds) == set(expected.bounds)


def _transposed(match: Contraction, rank: int, reason: str) -> Geometry | str:
    x, w, loops = match.left, match.right, match.loops
    inputs, per_group = _static(w.tensor.shape[0]), _static(w.tensor.shape[1])
    groups = _static(loops[1].extent) // per_group
    if x.tensor.shape[1] != inputs or groups < 1 or inputs % groups:
        return reason
    source = x.indices[1]
    own = index(loops[1]) if groups == 1 else index(loops[1]) % per_group
    if w.indices[0] is not source or w.indices[1] is not own:
        return reason
    rest = source if groups == 1 else source - index(loops[1]) // per_group * (inputs // groups)
    if not _reduced(rest, match.reduced):
        return reason
    found = []
    for k in range(rank):
        fitted = _fit(match, k)
        if fitted is None:
            return reason
        found.append(fitted)
    within = [b for window, cover in found for b in cover.within]
    real = [cover.real for _, cover in found]
    if not _same_guard(x, guard(*within)) or not _same_guard(w, guard(*real)):
        return "its guards are not those of a transposed convolution"
    windows = [window for window, _ in found]
    extra = [v.extent - ((v.count - 1) * v.stride - 2 * v.before + v.dilation * (v.taps - 1) + 1) for v in windows]
    if any(e < 0 or e >= max(v.stride, v.dilation) for e, v in zip(extra, windows, strict=True)):
        return "its output is cropped"
    return Geometry(
        True, tuple(v.stride for v in windows), tuple(v.before for v in windows), tuple(v.dilation for v in windows),
        tuple(int(str(e)) for e in extra), groups,
    )  # fmt: skip


def _fit(match: Contraction, k: int) -> tuple[Window, Cover] | None:
    """The window and cover that reproduce the ``k``-th spatial indices of both operands."""
    x, w, loop = match.left, match.right, match.loops[2 + k]
    where = x.indices[2 + k]
    divided = next((a for a in where.atoms if isinstance(a, FloorDiv)), None)
    stride = 1 if divided is None else _constant(divided.denominator)
    inner = 0 if divided is None else divided.numerator.offset
    before = where.offset * stride + inner if divided is not None else where.offset
    extents = (_static(loop.extent), _static(x.tensor.shape[2 + k]), _static(w.tensor.shape[2 + k]))
    steps = [index(i) for i in match.reduced if i in where.atoms or i in w.indices[2 + k].atoms] or [index(0)]
    for dilation in range(1, _MOST_DILATION):
        window = Window(*extents, stride, dilation, before)
        for step in steps:
            cover = window.cover(loop, step)
            if cover.window is where and cover.tap is w.indices[2 + k]:
                return window, cover
    return None


def _constant(value: Index) -> int:
    return value.constant or 1
