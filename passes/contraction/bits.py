"""Sets of indices as bits, and how many elements they span: vectorised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from tpopt.passes.contraction.network import Name, Network, presummed

Words = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bits:
    """Index sets as rows of bytes. Indices that the same operands have are one bit, of the product of their sizes.

    ``operands`` and ``output`` are rows; ``spans`` has the size of each bit, ``tables[n, byte]`` what the bits set in
    byte ``n`` span together.
    """

    operands: Words
    output: Words
    spans: Floats
    tables: Floats

    @staticmethod
    def of(network: Network) -> Bits:
        """The sets of a network, indices that one operand alone has left out."""
        operands, _ = presummed(network)
        holders: dict[Name, list[int]] = {}
        for number, names in enumerate(operands):
            for name in sorted(names, key=str):
                holders.setdefault(name, []).append(number)
        out = frozenset(network.output)
        groups: dict[tuple[tuple[int, ...], bool], list[Name]] = {}
        for name, numbers in holders.items():
            groups.setdefault((tuple(numbers), name in out), []).append(name)
        width = max(1, -(-len(groups) // 8))
        rows = np.zeros((len(operands), width * 8), np.uint8)
        last = np.zeros(width * 8, np.uint8)
        for bit, (owners, is_out) in enumerate(groups):
            rows[list(owners), bit] = 1
            last[bit] = is_out
        spans = [prod(network.sizes[i] for i in names) for names in groups.values()]
        every = np.ones(width * 8)
        every[: len(spans)] = spans
        return Bits(np.packbits(rows, axis=1), np.packbits(last), every, _tables(spans, width))

    def size(self, sets: Words) -> Floats:
        """Elements that the sets in the last axis span."""
        total = self.tables[0][sets[..., 0]]
        for place in range(1, self.tables.shape[0]):
            total = total * self.tables[place][sets[..., place]]
        return np.asarray(total, np.float64)


def _tables(spans: Sequence[int], width: int) -> Floats:
    tables = np.ones((width, 256))
    values = np.arange(256)
    for bit, span in enumerate(spans):
        place, shift = divmod(bit, 8)
        tables[place] *= np.where(values >> (7 - shift) & 1, float(span), 1.0)
    return tables


def own_sizes(network: Network, sizes: Floats) -> Floats:
    """The elements of each operand as it is stored."""
    stored: Mapping[int, int] = network.elements
    found = sizes.copy()
    _, changed = presummed(network)
    for number, elements in stored.items():
        if number not in changed:
            found[number] = elements
    return found
