"""The cheapest tree of a product of few operands, by dynamic programming over their subsets.

Source: Bellman's principle for join orders (Selinger et al., 1979); outer products are considered too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tpopt.passes.contraction.bits import Bits, Floats, Words, own_sizes
from tpopt.passes.contraction.cost import FOLDED, Cost
from tpopt.passes.contraction.network import Network, Tree

Numbers = npt.NDArray[np.int64]


@dataclass
class _Subsets:
    """What is known of each subset of the operands, by its bits."""

    sets: Words
    sizes: Floats
    operations: Floats
    fixed: npt.NDArray[np.bool_]
    us: Floats
    split: Numbers


def exact_tree(network: Network, cost: Cost) -> Tree | None:
    """The tree of least time; ``None`` where every tree has a result beyond ``cost.most_elements``."""
    bits, count = Bits.of(network), len(network.operands)
    table = _leaves(network, bits)
    order = sorted(range(1, 1 << count), key=int.bit_count)
    for subset in order[count:]:
        parts = _halves(subset)
        others = subset ^ parts
        formed = 1.0 + table.operations[parts] + table.operations[others]
        macs = bits.size(table.sets[parts] | table.sets[others]) * formed
        us = cost.product(macs, table.sizes[parts] + table.sizes[others] + table.sizes[subset])
        us = np.where(table.fixed[subset], FOLDED * us, us) + table.us[parts] + table.us[others]
        if table.sizes[subset] > cost.most_elements:
            continue
        best = int(np.argmin(us))
        table.us[subset], table.split[subset] = us[best], parts[best]
    whole = (1 << count) - 1
    return _tree(table, whole) if np.isfinite(table.us[whole]) else None


def _leaves(network: Network, bits: Bits) -> _Subsets:
    count = len(network.operands)
    total = 1 << count
    inside = np.zeros((total, bits.operands.shape[1]), np.uint8)
    for number in range(count):
        inside[1 << number : 2 << number] = inside[: 1 << number] | bits.operands[number]
    sets = inside & (inside[::-1] | bits.output)  # what the rest of the operands, or the output, needs of a subset
    sets[-1] = inside[-1] & bits.output
    singles = 1 << np.arange(count)
    sizes = bits.size(sets)
    sets[singles] = bits.operands
    sizes[singles] = own_sizes(network, bits.size(bits.operands))
    fixed = np.ones(total, bool)
    for number in range(count):
        fixed[1 << number : 2 << number] = fixed[: 1 << number] & (number in network.constants)
    us = np.full(total, np.inf)
    us[singles] = 0.0
    operations = np.zeros(total)
    operations[singles] = [network.operations.get(n, 0) for n in range(count)]
    return _Subsets(sets, sizes, operations, fixed, us, np.zeros(total, np.int64))


def _halves(subset: int) -> Numbers:
    """Every proper part of a subset that has its lowest operand: one of each pair of parts."""
    low = subset & -subset
    parts, rest = np.array([low], np.int64), subset ^ low
    while rest:
        bit = rest & -rest
        parts = np.concatenate([parts, parts | bit])
        rest ^= bit
    return parts[:-1]


def _tree(table: _Subsets, whole: int) -> Tree:
    """The tree by its splits, built without recursion."""
    built: dict[int, Tree] = {}
    pending = [whole]
    while pending:
        subset = pending[-1]
        if subset & (subset - 1) == 0:
            built[subset] = subset.bit_length() - 1
            pending.pop()
            continue
        part = int(table.split[subset])
        missing = [p for p in (part, subset ^ part) if p not in built]
        if missing:
            pending.extend(missing)
        else:
            built[subset] = (built[part], built[subset ^ part])
            pending.pop()
    return built[whole]
