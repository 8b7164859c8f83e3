"""Layers as products of two smaller matrices: of low rank, and in blocks."""

from __future__ import annotations

from math import floor, sqrt

import numpy as np

from tpopt.ir import Compute, apply, index
from tpopt.ir import total as sum_over
from tpopt.ir.walk import substitute_iters
from tpopt.passes.factorize.factorized import (
    Factorized,
    Names,
    Task,
    done,
    ending,
    extent,
    own_iterator,
    sizes,
    whole_rank,
)
from tpopt.passes.factorize.projections import BlockTrain, LowRank, Spectrum


def low_rank(task: Task) -> Factorized | None:
    """``t[r, ...] = sum right[r, columns] data``, then ``sum left[rows, r] t``: any layer, windows included."""
    layer, ratio = task.layer, task.ratio
    rows, columns = extent(layer.rows), extent(layer.columns)
    rank = whole_rank(rows * columns / (ratio * (rows + columns)), min(rows, columns))
    if rank < 1:
        return None
    matrix = np.asarray(layer.arranged((*layer.rows, *layer.columns)), dtype=np.float64).reshape(rows, columns)
    spectrum = task.spectrum("low_rank", lambda: Spectrum.of(matrix))
    if spectrum.error(rank) > task.most_error:
        return None
    made, tag = LowRank(*spectrum.split(rank)), f"low_rank{rank}"
    left, right = made.factors
    r = own_iterator("rank", rank)
    names = Names(layer, tag)
    inner = names.value("inner", (*layer.loops, r))
    first, one = names.weight("right", (r, *layer.columns))
    second, other = names.weight("left", (*layer.rows, r))
    stages = (
        Compute((inner,), (*layer.loops, r), (sum_over(layer.columns, apply("mul", layer.data, one)),)),
        ending(layer, sum_over((r,), apply("mul", inner.at((*layer.loops, r)), other))),
    )
    weights = {second: left.reshape(sizes(second)), first: right.reshape(sizes(first))}
    return done(layer, tag, stages, weights, made.whole())


def block_train(task: Task) -> Factorized | None:
    """Two batches of small products (a block tensor train, Monarch): linear layers whose extents divide evenly."""
    layer, ratio = task.layer, task.ratio
    if len(layer.rows) != 1 or len(layer.columns) != 1:
        return None
    (o,), (i,) = layer.rows, layer.columns
    rows, columns = extent(layer.rows), extent(layer.columns)
    n, p = _divisor(rows), _divisor(columns)
    if n < 2 or p < 2:
        return None
    m, q = rows // n, columns // p
    rank = min(floor(rows * columns / (ratio * n * p * (m + q))), m, q)
    if rank < 1:
        return None
    matrix = np.asarray(layer.arranged((o, i)), dtype=np.float64)
    spectrum = task.spectrum("block_train", lambda: BlockTrain.spectrum(matrix, (n, p)))
    if spectrum.error(rank) > task.most_error:
        return None
    made, tag = BlockTrain.of(matrix, (n, p), rank, spectrum), f"block_train{n}x{p}x{rank}"
    left, right = made.factors
    a, b, c, d, r = (
        own_iterator("part", p),
        own_iterator("group", n),
        own_iterator("rank", rank),
        own_iterator("within", q),
        own_iterator("row", m),
    )
    names = Names(layer, tag)
    inner = names.value("inner", (a, b, c, *layer.loops))
    outer = names.value("outer", (b, r, *layer.loops))
    first, one = names.weight("right", (a, b, c, d))
    second, other = names.weight("left", (b, r, a, c))
    data = substitute_iters(layer.data, {i: index(a) * q + d})
    places = (o - (index(o) // n) * n, index(o) // n)
    stages = (
        Compute((inner,), (a, b, c, *layer.loops), (sum_over((d,), apply("mul", data, one)),)),
        Compute(
            (outer,), (b, r, *layer.loops), (sum_over((a, c), apply("mul", inner.at((a, b, c, *layer.loops)), other)),)
        ),
        ending(layer, outer.at((*places, *layer.loops))),
    )
    return done(layer, tag, stages, {second: left, first: right}, made.whole())


def _divisor(size: int) -> int:
    """The divisor nearest to the square root."""
    return min((d for d in range(1, size + 1) if size % d == 0), key=lambda d: abs(d - sqrt(size)))
