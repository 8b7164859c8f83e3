"""Named instances of contraction order, each from a generator, and a solver of its own to compare with."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tpopt.passes.contraction import Network


def of(equation: str, **sizes: int) -> Network:
    """The network of an einsum equation."""
    left, right = equation.split("->")
    return Network(tuple(tuple(part) for part in left.split(",")), tuple(right), sizes)


def matrix_chain(extents: list[int]) -> Network:
    """A product of matrices of consecutive extents."""
    last = len(extents) - 1
    return Network(tuple((n, n + 1) for n in range(last)), (0, last), dict(enumerate(extents)))


def chain_optimum(extents: list[int]) -> int:
    """The textbook's O(n^3) table of a matrix chain."""
    n = len(extents) - 1
    best = np.zeros((n, n), np.int64)
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            best[i, j] = min(
                best[i, k] + best[k + 1, j] + extents[i] * extents[k + 1] * extents[j + 1] for k in range(i, j)
            )
    return int(best[0, n - 1])


def matrix_product_state(sites: int, bond: int, physical: int) -> Network:
    """The inner product of two matrix product states."""
    operands, sizes = [], {}
    for layer in "ab":
        for n in range(sites):
            bonds = [f"{layer}{k}" for k in (n - 1, n) if 0 <= k < sites - 1]
            operands.append((*bonds, f"p{n}"))
            sizes.update(dict.fromkeys(bonds, bond))
    sizes.update({f"p{n}": physical for n in range(sites)})
    return Network(tuple(operands), (), sizes)


def projected_entangled_pairs(side: int, bond: int) -> Network:
    """A closed square lattice."""
    operands = []
    for r in range(side):
        for c in range(side):
            names = [f"h{r}.{c}"] * (c < side - 1) + [f"h{r}.{c - 1}"] * (c > 0)
            names += [f"v{r}.{c}"] * (r < side - 1) + [f"v{r - 1}.{c}"] * (r > 0)
            operands.append(tuple(names))
    return Network(tuple(operands), (), {i: bond for names in operands for i in names})


def random_network(random: np.random.Generator, count: int) -> Network:
    """Operands over a random connected graph, some indices open, some of extent one."""
    operands: list[list[str]] = [[] for _ in range(count)]
    sizes: dict[str, int] = {}
    edges = [(n, int(random.integers(n))) for n in range(1, count)]
    edges += [tuple(map(int, random.choice(count, 2, replace=False))) for _ in range(count // 2)]
    for number, (a, b) in enumerate(edges):
        name = f"i{number}"
        operands[a].append(name)
        operands[b].append(name)
        sizes[name] = int(random.integers(1, 9))
    out = []
    for n in range(0, count, 3):
        name = f"o{n}"
        operands[n].append(name)
        sizes[name] = int(random.integers(1, 9))
        out.append(name)
    return Network(tuple(map(tuple, operands)), tuple(out), sizes)


def least_macs(network: Network) -> int:
    """The optimum by plain dynamic programming over frozensets: slow, and written apart from what it judges."""
    everything = frozenset(range(len(network.operands)))

    def open_(part: frozenset[int]) -> frozenset[object]:
        inside = {i for n in part for i in network.operands[n]}
        outside = {i for n in everything - part for i in network.operands[n]}
        return frozenset(i for i in inside if i in outside or i in network.output)

    best = {frozenset([n]): 0 for n in everything}
    for size in range(2, len(everything) + 1):
        for part in map(frozenset, combinations(sorted(everything), size)):
            first = min(part)
            rest = sorted(part - {first})
            candidates = []
            for k in range(len(rest)):
                for more in combinations(rest, k):
                    one = frozenset({first, *more})
                    other = part - one
                    candidates.append(best[one] + best[other] + network.size(open_(one) | open_(other)))
            best[part] = min(candidates)
    return best[everything]
