"""The reductions of the IR on numpy arrays: fold over axes, and merging of two partial results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tpopt.ir.interpret.arithmetic import Arrays

Axes = tuple[int, ...]
FARTHEST = np.iinfo(np.int64).max  # the position of "nowhere": every real position is smaller

_PLAIN: dict[str, Any] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}


def extreme(kind: np.dtype[Any], largest: bool) -> Any:
    """The identity of min (largest) or max among the values of a numpy type."""
    if kind.kind == "f":
        return np.inf if largest else -np.inf
    if kind.kind == "b":
        return largest
    return np.iinfo(kind).max if largest else np.iinfo(kind).min


def fold(monoid: str, values: Arrays, axes: Axes) -> Arrays:
    """Reduces ``axes``, kept with extent 1."""
    if monoid in ("max", "min"):
        identity = extreme(values[0].dtype, largest=monoid == "min")
        return (np.asarray(_PLAIN[monoid].reduce(values[0], axis=axes, keepdims=True, initial=identity)),)
    if monoid in _PLAIN:
        return (np.asarray(_PLAIN[monoid].reduce(values[0], axis=axes, keepdims=True, dtype=values[0].dtype)),)
    return _WIDE[monoid](values, axes)


def merge(monoid: str, left: Arrays, right: Arrays) -> Arrays:
    """Combines two partial results of equal shapes."""
    if monoid in _PLAIN:
        return (np.asarray(_PLAIN[monoid](left[0], right[0])),)
    stacked = tuple(np.stack(np.broadcast_arrays(a, b)) for a, b in zip(left, right, strict=True))
    return tuple(v[0] for v in _WIDE[monoid](stacked, (0,)))


def _arg(values: Arrays, axes: Axes, largest: bool) -> Arrays:
    """NaN wins, then the extreme, then the smaller position."""
    value, position = values
    best = fold("max" if largest else "min", (value,), axes)[0]
    hit = value == best
    if value.dtype.kind == "f":
        hit |= np.isnan(value) & np.isnan(best)
    nowhere = (
        np.asarray(FARTHEST).astype(position.dtype) if position.dtype.itemsize == 8 else np.iinfo(position.dtype).max
    )
    candidates = np.where(hit, position, nowhere)
    return best, fold("min", (candidates.astype(position.dtype),), axes)[0]


def _welford(values: Arrays, axes: Axes) -> Arrays:
    mean, m2, count = values
    total = np.add.reduce(count, axis=axes, keepdims=True)
    safe = np.where(total == 0, 1, total)
    center = np.add.reduce(mean * count, axis=axes, keepdims=True) / safe
    spread = m2 + np.where(count == 0, 0, count * np.square(mean - center))
    return center, np.add.reduce(spread, axis=axes, keepdims=True), total


def _logsumexp(values: Arrays, axes: Axes) -> Arrays:
    """Terms at the maximum are not rescaled, so that infinite maxima stay defined."""
    exponent, scale = values
    top = fold("max", (exponent,), axes)[0]
    factor = np.where(exponent == top, 1.0, np.exp(exponent - top))
    return top, np.add.reduce(scale * factor, axis=axes, keepdims=True)


_WIDE: dict[str, Callable[[Arrays, Axes], Arrays]] = {
    "argmax": lambda v, axes: _arg(v, axes, largest=True),
    "argmin": lambda v, axes: _arg(v, axes, largest=False),
    "welford": _welford,
    "logsumexp": _logsumexp,
}
