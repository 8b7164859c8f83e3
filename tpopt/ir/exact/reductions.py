"""The reductions of the IR over extended residues."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tpopt.ir.exact.functions import Functions
from tpopt.ir.exact.numbers import INFINITE, NEGATIVE_INFINITE, marked
from tpopt.ir.interpret.arithmetic import Arrays
from tpopt.ir.interpret.monoids import FARTHEST
from tpopt.ir.program import Array

Axes = tuple[int, ...]
_FAR = 2**62 + 2


def fold(functions: Functions, monoid: str, values: Arrays, axes: Axes) -> Arrays:
    """Reduces ``axes``, kept with extent 1."""
    match monoid:
        case "sum":
            return (_sum(functions, values[0], axes),)
        case "prod":
            flat, shape = flattened(values[0], axes)
            return (halved(flat, np.asarray(1, np.int64), lambda a, b: functions.apply("mul", (a, b))).reshape(shape),)
        case "max" | "min":
            return (_extreme(functions, values[0], axes, monoid == "max")[0],)
        case "argmax" | "argmin":
            return _arg(functions, values, axes, monoid == "argmax")
        case "welford":
            return _welford(functions, values, axes)
        case _:
            return _logsumexp(functions, values, axes)


def flattened(value: Array, axes: Axes) -> tuple[Array, tuple[int, ...]]:
    """The reduced axes as one first axis, and the shape of the result."""
    rest = [n for n in range(value.ndim) if n not in axes]
    kept = tuple(1 if n in axes else e for n, e in enumerate(value.shape))
    count = int(np.prod([value.shape[n] for n in axes]))
    return value.transpose(*axes, *rest).reshape((count, *(value.shape[n] for n in rest))), kept


def halved(flat: Array, identity: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """Combines the elements of the first axis, halves at a time."""
    if not len(flat):
        return np.full(flat.shape[1:], identity, flat.dtype)
    while len(flat) > 1:
        half = len(flat) // 2
        merged = combine(flat[:half], flat[half : 2 * half])
        flat = np.concatenate([merged, flat[2 * half :]]) if len(flat) % 2 else merged
    return np.array(flat[0])


def _sum(functions: Functions, value: Array, axes: Axes) -> Array:
    numbers = functions.numbers
    total = functions.field.total(numbers.ordinary(value), axes)
    if not marked(value):
        return total
    rough = np.add.reduce(numbers.standing(value), axis=axes, keepdims=True)
    odd = ~np.isfinite(rough)
    total[odd] = numbers.encode_all(rough[odd])
    return total


def _extreme(functions: Functions, value: Array, axes: Axes, largest: bool) -> tuple[Array, Array]:
    """The first extreme element, and the sorting keys of all (NaN is the extreme of both kinds)."""
    keys = functions.numbers.keys(value, _FAR if largest else -_FAR)
    flat, shape = flattened(value, axes)
    if not len(flat):
        return np.full(shape, NEGATIVE_INFINITE if largest else INFINITE, np.int64), keys
    ranks, _ = flattened(keys, axes)
    at = ranks.argmax(axis=0) if largest else ranks.argmin(axis=0)
    return np.take_along_axis(flat, at[None], axis=0).reshape(shape), keys


def _arg(functions: Functions, values: Arrays, axes: Axes, largest: bool) -> Arrays:
    best, keys = _extreme(functions, values[0], axes, largest)
    top = functions.numbers.keys(best, _FAR if largest else -_FAR)
    position = values[1]
    nowhere = min(FARTHEST, int(np.iinfo(position.dtype).max))
    where = np.where(keys == top, position, nowhere).astype(position.dtype)
    return best, np.asarray(np.minimum.reduce(where, axis=axes, keepdims=True, initial=nowhere))


def _welford(functions: Functions, values: Arrays, axes: Axes) -> Arrays:
    """Means and squared deviations about the common mean; 0 for a count of 0."""
    mean, m2, count = values

    def run(name: str, *args: Array) -> Array:
        return functions.apply(name, args)

    total = _sum(functions, count, axes)
    empty = functions.numbers.residues(total) == 0
    center = run("div", _sum(functions, run("mul", mean, count), axes), np.where(empty, 1, total))
    off = run("sub", mean, center)
    spread = run("add", m2, run("mul", count, run("mul", off, off)))
    return center, _sum(functions, spread, axes), total


def _logsumexp(functions: Functions, values: Arrays, axes: Axes) -> Arrays:
    exponent, scale = values
    (top,) = fold(functions, "max", (exponent,), axes)
    distance = np.where(exponent == top, 0, functions.apply("sub", (exponent, top)))
    weighted = functions.apply("mul", (scale, functions.apply("exp", (distance,))))
    return top, _sum(functions, weighted, axes)
