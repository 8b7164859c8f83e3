"""The order of a product of any number of operands: exact where that is possible, better than greedy elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from opt_einsum.paths import ssa_greedy_optimize

from tpopt.errors import LimitExceeded
from tpopt.passes.contraction.cost import MACS, Cost
from tpopt.passes.contraction.exact import exact_tree
from tpopt.passes.contraction.linear import linear_tree
from tpopt.passes.contraction.network import Name, Network, Order, Tree, evaluate_order, inner_nodes, leaves, presummed

EXACT = 14
"""Operands up to which every tree is considered."""
LINEAR = 600
"""Operands up to which all intervals of an order are considered: the cube of this many steps take a second."""
WINDOW = 6
"""Operands of a part of a tree that is solved exactly at a time."""
ROUNDS = 2


def best_order(network: Network, cost: Cost = MACS, *, exact: int = EXACT) -> Order:
    """The cheapest order found; the best of all up to ``exact`` operands (outer products included). Deterministic.

    Above that: a greedy tree, and one along a walk from neighbour to neighbour; then, for their orders of leaves, the
    best tree that keeps the order; then parts of the tree solved exactly, until nothing gets better. Raises
    :class:`LimitExceeded` where no order keeps every result within ``cost.most_elements``.
    """
    count = len(network.operands)
    if count == 1:
        return evaluate_order(network, 0, cost)
    if count <= exact:
        tree = exact_tree(network, cost)
        if tree is None:
            raise LimitExceeded(f"no order of {count} operands keeps results within {cost.most_elements:g} elements")
        return evaluate_order(network, tree, cost)
    found = [evaluate_order(network, t, cost) for t in _starts(network, cost)]
    best = min(found, key=lambda o: (o.largest > cost.most_elements, o.us, o.macs))
    for _ in range(ROUNDS):
        better = _improved(network, best, cost)
        if better.us >= best.us:
            break
        best = better
    if best.largest > cost.most_elements:
        raise LimitExceeded(f"no order was found that keeps results within {cost.most_elements:g} elements")
    return best


def _starts(network: Network, cost: Cost) -> Iterator[Tree]:
    tree = greedy_tree(network)
    yield tree
    yield greedy_tree(network, temperature=1.0)
    orders = [leaves(tree), _walk(network), list(range(len(network.operands)))]
    if len(network.operands) <= LINEAR:
        for order in orders:
            tree_ = linear_tree(network, order, cost)
            if tree_ is not None:
                yield tree_


def greedy_tree(network: Network, temperature: float = 0.0, seed: int = 0) -> Tree:
    """opt_einsum's greedy order; above ``temperature`` 0 ties and near ties fall by chance."""
    operands, _ = presummed(network)
    random = Random(seed)  # noqa: S311 - an order, not a secret

    def price(size12: int, size1: int, size2: int, *_: int) -> float:
        own = float(size12 - size1 - size2)
        return own * (1.0 + temperature * random.random()) if temperature else own

    path = ssa_greedy_optimize(list(operands), frozenset(network.output), dict(network.sizes), cost_fn=price)
    made: list[Tree] = list(range(len(operands)))
    for a, b in path:
        made.append((made[a], made[b]))
    return made[-1]


def _walk(network: Network) -> list[int]:
    """Operands in an order in which neighbours follow each other: from an end of the network, nearest first."""
    holders: dict[Name, list[int]] = {}
    for number, names in enumerate(network.operands):
        for name in names:
            holders.setdefault(name, []).append(number)
    beside = [
        dict.fromkeys(n for name in names for n in holders[name] if n != number)
        for number, names in enumerate(network.operands)
    ]
    order: dict[int, None] = {}
    while len(order) < len(beside):
        rest = [n for n in range(len(beside)) if n not in order]
        current = min(rest, key=lambda n: (len(beside[n]), n))
        frontier = {current: 0}
        while frontier:
            current = min(frontier, key=lambda n: (-frontier[n], n))
            del frontier[current]
            order[current] = None
            for n in beside[current]:
                if n not in order:
                    frontier[n] = len(order)
    return list(order)


def _improved(network: Network, order: Order, cost: Cost) -> Order:
    """The order with each part of at most :data:`WINDOW` results solved exactly, and its leaves' best tree."""
    best = order
    built: dict[Tree, Tree] = {}
    for node in inner_nodes(order.tree):
        left, right = (built.get(t, t) for t in node)
        built[node] = _better(network, (left, right), cost)
    candidate = evaluate_order(network, built.get(order.tree, order.tree), cost)
    if candidate.us < best.us and candidate.largest <= max(best.largest, cost.most_elements):
        best = candidate
    if len(network.operands) <= LINEAR:
        again = linear_tree(network, leaves(best.tree), cost)
        if again is not None:
            best = min(best, evaluate_order(network, again, cost), key=lambda o: o.us)
    return best


def _better(network: Network, node: Tree, cost: Cost) -> Tree:
    """A node whose topmost products are in the best order."""
    part, shape = _part(node)
    if len(part) < 3:
        return node
    small = _opened(network, part)
    solved = exact_tree(small, cost)
    if solved is None or evaluate_order(small, solved, cost).us >= evaluate_order(small, shape, cost).us:
        return node
    return _substituted(solved, part)


def _part(node: Tree) -> tuple[list[Tree], Tree]:
    """At most :data:`WINDOW` subtrees that together make a node, the topmost opened first, and how they make it."""
    part: list[Tree] = [node]
    opened: dict[Tree, tuple[Tree, Tree]] = {}
    while len(part) < WINDOW:
        closed = next((n for n, t in enumerate(part) if isinstance(t, tuple)), None)
        if closed is None:
            break
        pair = part.pop(closed)
        assert isinstance(pair, tuple)
        opened[pair] = pair
        part.extend(pair)
    numbers: dict[Tree, Tree] = {t: n for n, t in enumerate(part)}
    for pair in reversed(opened):
        left, right = opened[pair]
        numbers[pair] = (numbers[left], numbers[right])
    return part, numbers[node]


def _opened(network: Network, part: list[Tree]) -> Network:
    """The product of finished results as a network of its own."""
    held = [{i for n in leaves(t) for i in network.operands[n]} for t in part]
    inside = {n for t in part for n in leaves(t)}
    needed = {i for n, names in enumerate(network.operands) if n not in inside for i in names} | set(network.output)
    operands = []
    for number, names in enumerate(held):
        others = {i for k, rest in enumerate(held) if k != number for i in rest}
        operands.append(tuple(i for i in network.indices if i in names and (i in others or i in needed)))
    fixed = frozenset(n for n, t in enumerate(part) if all(k in network.constants for k in leaves(t)))
    output = tuple(i for i in dict.fromkeys(i for names in operands for i in names) if i in needed)
    return replace(network, operands=tuple(operands), output=output, constants=fixed, elements={}, operations={})


def _substituted(tree: Tree, part: list[Tree]) -> Tree:
    built: dict[Tree, Tree] = {}
    for pair in inner_nodes(tree):
        left, right = (part[t] if isinstance(t, int) else built[t] for t in pair)
        built[pair] = (left, right)
    return built[tree]
