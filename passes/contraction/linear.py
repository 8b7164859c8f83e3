"""The cheapest tree that keeps operands in a given order, by dynamic programming over intervals.

For a matrix chain in its own order this is the textbook optimum. For any network it improves a tree whose leaves are
taken from left to right: no tree with that order of leaves is cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tpopt.passes.contraction.bits import Bits, Floats, Words, own_sizes
from tpopt.passes.contraction.cost import FOLDED, Cost
from tpopt.passes.contraction.network import Network, Tree

Numbers = npt.NDArray[np.int64]


def linear_tree(network: Network, order: Sequence[int], cost: Cost) -> Tree | None:
    """The best tree over ``order``; ``None`` where a result would be beyond ``cost.most_elements``."""
    bits, count = Bits.of(network), len(order)
    rows = bits.operands[list(order)]
    sizes = bits.size(_interval_sets(rows, bits.output))
    spans = sizes.copy()
    where = np.arange(count)
    sizes[where, where + 1] = own_sizes(network, bits.size(bits.operands))[list(order)]
    closed = _closed(rows, bits)
    formed = np.zeros((count + 1, count + 1))
    formed[where, where + 1] = [network.operations.get(n, 0) for n in order]
    variable = np.concatenate([[0], np.cumsum([n not in network.constants for n in order])])
    us = np.full((count + 1, count + 1), np.inf)
    us[where, where + 1] = 0.0
    split = np.zeros((count + 1, count + 1), np.int64)
    for length in range(2, count + 1):
        starts = np.arange(count - length + 1)[:, None]
        middles = starts + np.arange(1, length)[None, :]
        ends = starts + length
        inner = closed[middles, ends] - closed[starts, ends] - closed[middles, middles] + closed[starts, middles]
        macs = spans[starts, ends] * np.exp2(inner)
        macs = macs * (1.0 + formed[starts, middles] + formed[middles, ends])
        own = cost.product(macs, sizes[starts, middles] + sizes[middles, ends] + sizes[starts, ends])
        constant = (variable[ends] == variable[starts]) | np.zeros(middles.shape, bool)
        total = np.where(constant, FOLDED * own, own) + us[starts, middles] + us[middles, ends]
        total[(sizes[starts, ends] > cost.most_elements)[:, 0]] = np.inf
        best = np.argmin(total, axis=1)
        us[starts[:, 0], ends[:, 0]] = total[starts[:, 0], best]
        split[starts[:, 0], ends[:, 0]] = middles[starts[:, 0], best]
    return _tree(order, split) if np.isfinite(us[0, count]) else None


def _closed(rows: Words, bits: Bits) -> Floats:
    """``[k, j]``: log2 of what the indices span that start before operand ``k`` and end before operand ``j``.

    An index that the output has never ends. What a product of ``[i, k)`` and ``[k, j)`` sums over starts in the one and
    ends in the other, which four of these numbers tell.
    """
    count = rows.shape[0]
    held = np.unpackbits(rows, axis=1).astype(bool)
    summed = held.any(axis=0) & ~np.unpackbits(bits.output).astype(bool)
    spans = np.log2(np.maximum(bits.spans, 1.0))
    first, last = held.argmax(axis=0), count - 1 - held[::-1].argmax(axis=0)
    weights = np.zeros((count + 1, count + 1))
    np.add.at(weights, (first[summed] + 1, last[summed] + 1), spans[summed])
    return weights.cumsum(axis=0).cumsum(axis=1)


def _interval_sets(rows: Words, output: Words) -> Words:
    """For each interval of operands, the indices that what lies outside it, or the output, needs."""
    count, width = rows.shape
    before = np.zeros((count + 1, width), np.uint8)
    after = np.zeros((count + 1, width), np.uint8)
    for n in range(count):
        before[n + 1] = before[n] | rows[n]
        after[count - n - 1] = after[count - n] | rows[count - n - 1]
    sets = np.zeros((count + 1, count + 1, width), np.uint8)
    for end in range(1, count + 1):
        inside = np.bitwise_or.accumulate(rows[:end][::-1], axis=0)[::-1]
        sets[:end, end] = inside & (before[:end] | after[end] | output)
    return sets


def _tree(order: Sequence[int], split: Numbers) -> Tree:
    built: dict[tuple[int, int], Tree] = {}
    pending = [(0, len(order))]
    while pending:
        low, high = pending[-1]
        if high - low == 1:
            built[low, high] = order[low]
            pending.pop()
            continue
        middle = int(split[low, high])
        missing = [p for p in ((low, middle), (middle, high)) if p not in built]
        if missing:
            pending.extend(missing)
        else:
            built[low, high] = (built[low, middle], built[middle, high])
            pending.pop()
    return built[0, len(order)]
