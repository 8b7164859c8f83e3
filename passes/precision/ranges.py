"""Ranges of values that a grid of integers has to cover: the whole, all but the tails, or what loses least.

A range belongs to a tensor, to a channel or to a group: ``channels`` are the axes along which ranges differ, and the
bounds keep all axes of the values, with extent 1 elsewhere, so that they broadcast against them.

Source: Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 3.1 (min-max, percentile, MSE).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tpopt.errors import UsageError

Floats: TypeAlias = npt.NDArray[np.float64]
Channels: TypeAlias = "int | tuple[int, ...] | None"
"""Axes along which ranges differ; ``None`` for one range of the whole tensor."""

SHARES: Final = np.exp2(-np.arange(57) / 8)
"""Shares of the whole range that are tried first, down to 1/128: outliers may be that much larger than the rest."""
FINER: Final = np.exp2(np.linspace(-1 / 8, 1 / 8, 17))
"""Then factors of the best one, up to its neighbours."""
ROUNDS: Final = 3
"""Times that each end is moved in turn where both are free."""


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both float64 and in the unit of the values."""

    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        """Raises :class:`~tpopt.errors.UsageError` unless both are finite and in order."""
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self.low <= self.high).all()):
            raise UsageError("range: expected finite bounds, the lower one first; do the values hold inf or nan?")

    @property
    def largest(self) -> Floats:
        """The largest magnitude within."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


def min_max(values: npt.ArrayLike, channels: Channels = None) -> Range:
    """From the least to the greatest value: ``[..., 1, ...]`` for each channel. Nothing is clipped."""
    array = _floats(values)
    axes = shared_axes(array.ndim, channels)
    return Range(array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True))


def percentile(values: npt.ArrayLike, share: float = 0.999, channels: Channels = None) -> Range:
    """Without the outermost values: ``share`` of them lie below the upper bound, and as many above the lower.

    Raises :class:`~tpopt.errors.UsageError` unless ``0.5 < share <= 1``.
    """
    if not 0.5 < share <= 1:
        raise UsageError(f"share={share}: expected above 0.5 and at most 1")
    array = _floats(values)
    axes = shared_axes(array.ndim, channels)
    low, high = np.quantile(array, (1 - share, share), axis=axes, keepdims=True)
    return Range(low, high)


def mse_optimal(
    values: npt.ArrayLike,
    quantized: Callable[[Floats, Range], Floats],
    channels: Channels = None,
    *,
    ends: bool = False,
) -> Range:
    """The range for which ``quantized(values, range)`` has the least squared error, channel by channel.

    Args:
        values: any shape, floats.
        quantized: the values as a grid over a range has them; it treats channels apart.
        channels: axes along which ranges differ.
        ends: whether each end moves by itself (asymmetric grids); else both shrink by the same factor.

    Clipping trades large errors of few values for a finer step everywhere. Shares of the whole range are tried, then
    those around the best; for one end at a time the other one is held.
    """
    array, whole = _floats(values), min_max(values, channels)
    axes = shared_axes(array.ndim, channels)

    def error(of_low: Floats, of_high: Floats) -> Floats:
        found = quantized(array, Range(whole.low * of_low, whole.high * of_high))
        return np.asarray(np.square(found - array).sum(axis=axes, keepdims=True))

    low = high = np.ones_like(whole.low)
    if not ends:
        both = _best(lambda share: error(share, share), low)
        return Range(whole.low * both, whole.high * both)
    for _ in range(ROUNDS):
        low = _best(partial(lambda fixed, share: error(share, fixed), high), low)
        high = _best(partial(error, low), high)
    return Range(whole.low * low, whole.high * high)


def shared_axes(rank: int, channels: Channels) -> tuple[int, ...]:
    """The axes along which values of that rank share a range.

    Raises :class:`~tpopt.errors.UsageError` for an axis that is not there.
    """
    own = () if channels is None else (channels,) if isinstance(channels, int) else channels
    if any(not -rank <= axis < rank for axis in own):
        raise UsageError(f"channels={channels}: the values have {rank} axes")
    return tuple(axis for axis in range(rank) if axis not in {a % rank for a in own})


def _best(error: Callable[[Floats], Floats], like: Floats) -> Floats:
    """The share of least error for each channel."""
    coarse = _least(error, [np.full_like(like, share) for share in SHARES])
    return _least(error, [np.minimum(coarse * factor, 1.0) for factor in FINER])


def _least(error: Callable[[Floats], Floats], candidates: list[Floats]) -> Floats:
    errors = np.stack([error(c) for c in candidates])
    return np.asarray(np.take_along_axis(np.stack(candidates), errors.argmin(axis=0)[None], axis=0)[0])


def _floats(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise UsageError("values: expected at least one")
    return array
