"""A sum of products as a network: operands that share indices, and trees that say in which order they meet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TypeAlias

from tpopt.errors import UsageError
from tpopt.passes.contraction.cost import MACS, Cost

Name: TypeAlias = Hashable
Tree: TypeAlias = "int | tuple[Tree, Tree]"
"""An operand by its number, or two trees whose results are multiplied."""


@dataclass(frozen=True)
class Network:
    """``out[output] = sum over all other indices of the product of the operands``.

    ``sizes`` has the extent of every index. ``constants`` are the numbers of operands whose values are known before the
    program runs: a product of constants takes no time then. ``elements`` are the elements of operands that have fewer
    than their indices span (a convolution's window), by number; ``operations`` what it takes to form an element of one
    that is an expression, each time it is read. Raises :class:`UsageError` for an index without a size
    and for an output index that no operand has.
    """

    operands: tuple[tuple[Name, ...], ...]
    output: tuple[Name, ...]
    sizes: Mapping[Name, int]
    constants: frozenset[int] = frozenset()
    elements: Mapping[int, int] = field(default_factory=dict)
    operations: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.operands:
            raise UsageError("operands=(): a product needs an operand")
        known = dict.fromkeys(i for names in self.operands for i in names)
        missing = [i for i in (*known, *self.output) if i not in self.sizes]
        if missing:
            raise UsageError(f"sizes: index {missing[0]!r} has none")
        foreign = [i for i in self.output if i not in known]
        if foreign:
            raise UsageError(f"output: index {foreign[0]!r} belongs to no operand")

    @cached_property
    def indices(self) -> tuple[Name, ...]:
        """Every index in order of appearance."""
        return tuple(dict.fromkeys(i for names in self.operands for i in names))

    def size(self, names: Sequence[Name] | frozenset[Name]) -> int:
        """Elements that indices span."""
        return prod(self.sizes[i] for i in names)


@dataclass(frozen=True)
class Step:
    """One product: the trees that meet, the indices of the result, its multiply-adds and its time."""

    left: Tree
    right: Tree
    result: frozenset[Name]
    macs: int
    us: float
    constant: bool


@dataclass(frozen=True)
class Order:
    """A tree and what it takes. ``presums`` are operands with indices that only they have, which are summed first."""

    tree: Tree
    steps: tuple[Step, ...]
    presums: tuple[int, ...]
    us: float
    macs: int
    folded_macs: int
    largest: int

    def __str__(self) -> str:
        lines = [f"{s.left} * {s.right}: {s.macs:,} MACs{' (folded)' if s.constant else ''}" for s in self.steps]
        return "\n".join([*lines, f"{self.macs:,} MACs, {self.us:,.1f} us, largest result {self.largest:,} elements"])


def presummed(network: Network) -> tuple[tuple[frozenset[Name], ...], tuple[int, ...]]:
    """The indices of each operand once those that it alone has are summed out, and the operands concerned."""
    holders: dict[Name, int] = {}
    for names in network.operands:
        for name in dict.fromkeys(names):
            holders[name] = holders.get(name, 0) + 1
    out = frozenset(network.output)
    kept = [frozenset(i for i in names if holders[i] > 1 or i in out) for names in network.operands]
    changed = [n for n, names in enumerate(network.operands) if len(kept[n]) < len(set(names))]
    return tuple(kept), tuple(changed)


def evaluate_order(network: Network, tree: Tree, cost: Cost = MACS) -> Order:
    """What a tree takes: each product keeps the indices that a later product or the output needs."""
    operands, changed = presummed(network)
    out = frozenset(network.output)
    left: dict[Name, int] = {}
    for names in operands:
        for name in names:
            left[name] = left.get(name, 0) + 1
    stored = {n: e for n, e in network.elements.items() if n not in changed}
    found: dict[Tree, tuple[frozenset[Name], bool, int]] = {
        n: (names, n in network.constants, stored.get(n, network.size(names))) for n, names in enumerate(operands)
    }
    steps: list[Step] = []
    for pair in inner_nodes(tree):
        (a, fixed_a, size_a), (b, fixed_b, size_b) = found[pair[0]], found[pair[1]]
        for name in a & b:
            left[name] -= 1
        result = frozenset(i for i in a | b if left[i] > 1 or i in out)
        formed = sum(network.operations.get(t, 0) for t in pair if isinstance(t, int))
        macs, elements = network.size(a | b) * (1 + formed), network.size(result)
        us = float(cost.product(macs, size_a + size_b + elements))
        constant = fixed_a and fixed_b
        found[pair] = (result, constant, elements)
        steps.append(Step(pair[0], pair[1], result, macs, 0.0 if constant else us, constant))
    sums = [network.size(network.operands[n]) for n in changed if n not in network.constants]
    summed_us = float(sum(cost.product(0.0, float(s)) for s in sums)) if sums else 0.0
    return Order(
        tree, tuple(steps), changed, sum(s.us for s in steps) + summed_us,
        sum(s.macs for s in steps if not s.constant), sum(s.macs for s in steps if s.constant),
        max((network.size(s.result) for s in steps), default=network.size(operands[0])),
    )  # fmt: skip


def inner_nodes(tree: Tree) -> list[tuple[Tree, Tree]]:
    """The products of a tree, operands before their users."""
    order: list[tuple[Tree, Tree]] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            order.append(node)
            pending.extend(node)
    return order[::-1]


def leaves(tree: Tree) -> list[int]:
    """The operands of a tree from left to right."""
    found: list[int] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            pending.extend(reversed(node))
        else:
            found.append(node)
    return found
