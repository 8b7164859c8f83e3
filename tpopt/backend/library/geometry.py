"""Convolutions recognised in contractions, direct and transposed, by solving for their parameters and rebuilding them.

A guess of stride, padding and dilation is read off the index expressions; it counts only when the indices and guards
that these parameters imply are the very terms of the contraction. So a match is a proof.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    if not _along(x.indices[0], loops[0]) or index(x.tensor.shape[0]) is not index(loops[0].extent):
        return "its batch axis is indexed, or not read whole"
    direct = _direct(match, rank)
    return direct if isinstance(direct, Geometry) else _transposed(match, rank, direct)


def _along(where: Index, loop: Iter) -> bool:
    """Whether an axis is read by a loop (an axis of extent 1 may be read at 0)."""
    return where is index(loop) or (loop.extent == 1 and where.constant == 0)


def _only_taps(w: Factor) -> bool:
    return all(set(b.value.atoms) <= {a for i in w.indices[2:] for a in i.atoms} for b in w.bounds)


def _static(value: object) -> int:
    assert isinstance(value, int)
    return value


def _sums(where: Index, extent: int, unused: list[Iter]) -> bool:
    """Whether an axis is summed over whole: by an iterator of that extent, which it takes out of ``unused``."""
    if extent == 1 and where.constant == 0:
        return True
    found = next((i for i in unused if where is index(i) and i.extent == extent), None)
    if found is not None:
        unused.remove(found)
    return found is not None


def _left_over(unused: list[Iter]) -> bool:
    """Whether a summed iterator was used by no axis: the sum repeats itself."""
    return any(i.extent != 1 for i in unused)


def _direct(match: Contraction, rank: int) -> Geometry | str:
    x, w, loops = match.left, match.right, match.loops
    channel, taps, unused = w.indices[1], w.indices[2:], list(match.reduced)
    filters, per_group, *lengths = map(_static, w.tensor.shape)
    summed = all(_sums(i, n, unused) for i, n in zip((channel, *taps), (per_group, *lengths), strict=True))
    if not _along(w.indices[0], loops[1]) or filters != loops[1].extent or not summed or w.bounds:
        return "the weight is not read whole as [filter, channel, taps]"
    if _left_over(unused):
        return "a summed iterator reads neither operand"
    channels = _static(x.tensor.shape[1])
    groups = channels // per_group
    if channels % per_group or filters % groups:
        return "channels and filters do not fall into groups"
    expected = channel if groups == 1 else index(loops[1]) // (filters // groups) * per_group + channel
    if x.indices[1] is not expected:
        return "its channels are read in another order"
    along = [_window(match, k) for k in range(rank)]
    windows = [v for v in along if isinstance(v, Window)]
    if len(windows) < rank:
        return next(v for v in along if isinstance(v, str))
    inside = guard(*(v.inside(loops[2 + k], taps[k]) for k, v in enumerate(windows)))
    if not _same_guard(x, inside):
        return "its guard is not that of padding by zeros"
    return Geometry(False, *_parameters(windows), (0,) * rank, groups)


def _window(match: Contraction, k: int) -> Window | str:
    """The window that reproduces the ``k``-th spatial index of the data."""
    x, w, loop = match.left, match.right, match.loops[2 + k]
    where, tap = x.indices[2 + k], w.indices[2 + k]
    extent, count, taps = (_static(n) for n in (x.tensor.shape[2 + k], loop.extent, w.tensor.shape[2 + k]))
    stride = where.coefficient(loop).constant
    step = where.coefficient(tap.atoms[0]).constant if tap.atoms else 1
    if stride is None or stride < 0 or step is None or step < 1:
        return "a spatial index is not stride*loop + dilation*tap - padding"
    last = extent - 2 * where.offset - step * (taps - 1) - 1  # where a window may begin at most
    p = loop if stride else 0
    stride = stride or max(1, last + 1)  # one window alone has any stride that allows no second
    window = Window(extent, count, taps, stride, step, -where.offset)
    if where is not window.position(p, tap):
        return "a spatial index is not stride*loop + dilation*tap - padding"
    if last // stride + 1 != count or window.before < 0:
        return "its padding is not the same before and behind"
    return window


def _parameters(windows: Sequence[Window]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Strides, paddings, dilations."""
    return (
        tuple(v.stride for v in windows),
        tuple(v.before for v in windows),
        tuple(v.dilation for v in windows),
    )


def _same_guard(factor: Factor, expected: Guard) -> bool:
    return set(factor.bounds) == set(expected.bounds)


def _transposed(match: Contraction, rank: int, reason: str) -> Geometry | str:
    x, w, loops = match.left, match.right, match.loops
    inputs, per_group = _static(w.tensor.shape[0]), _static(w.tensor.shape[1])
    groups = _static(loops[1].extent) // per_group
    if x.tensor.shape[1] != inputs or groups < 1 or inputs % groups:
        return reason
    source, unused = x.indices[1], list(match.reduced)
    own = index(loops[1]) if groups == 1 else index(loops[1]) % per_group
    if w.indices[0] is not source or w.indices[1] is not own or per_group * groups != loops[1].extent:
        return reason
    rest = source if groups == 1 else source - index(loops[1]) // per_group * (inputs // groups)
    if not _sums(rest, inputs // groups, unused):
        return reason
    found = []
    for k in range(rank):
        fitted = _fit(match, k, unused)
        if fitted is None:
            return reason
        found.append(fitted)
    if _left_over(unused):
        return reason
    within = [b for window, cover in found for b in cover.within]
    real = [cover.real for _, cover in found]
    if not _same_guard(x, guard(*within)) or not _same_guard(w, guard(*real)):
        return "its guards are not those of a transposed convolution"
    windows = [window for window, _ in found]
    extra = [_surplus(v) for v in windows]
    if any(e < 0 or e >= max(v.stride, v.dilation) or v.before < 0 for e, v in zip(extra, windows, strict=True)):
        return "its output is cropped"
    return Geometry(True, *_parameters(windows), tuple(extra), groups)


def _surplus(window: Window) -> int:
    """Positions of the axis behind the last one that torch's formula gives: the output padding."""
    extent, count, taps = _static(window.extent), _static(window.count), _static(window.taps)
    return extent - ((count - 1) * window.stride - 2 * window.before + window.dilation * (taps - 1) + 1)


def _fit(match: Contraction, k: int, unused: list[Iter]) -> tuple[Window, Cover] | None:
    """The window and cover that reproduce the ``k``-th spatial indices of both operands; takes their iterator."""
    x, w, loop = match.left, match.right, match.loops[2 + k]
    where = x.indices[2 + k]
    divided = next((a for a in where.atoms if isinstance(a, FloorDiv)), None)
    stride = 1 if divided is None else _constant(divided.denominator)
    inner = 0 if divided is None else divided.numerator.offset
    before = where.offset * stride + inner if divided is not None else where.offset
    extents = (_static(loop.extent), _static(x.tensor.shape[2 + k]), _static(w.tensor.shape[2 + k]))
    steps: list[Iter | int] = [*unused, 0]
    for dilation in range(1, _MOST_DILATION + 1):
        window = Window(*extents, stride, dilation, before)
        for step in steps:
            cover = window.cover(loop, step)
            whole = window.covers == (step.extent if isinstance(step, Iter) else 1)
            if whole and cover.window is where and cover.tap is w.indices[2 + k]:
                unused[:] = [i for i in unused if i is not step]
                return window, cover
    return None


def _constant(value: Index) -> int:
    return value.constant or 1
