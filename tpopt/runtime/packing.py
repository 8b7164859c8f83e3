"""Arena offsets of a plan: aligned blocks, packed greedily and, where that leaves a gap, by depth-first search.

The methods are those of :mod:`tpopt.passes.rematerialize.packing`. The searches are bounded by placements, not by time,
so that a plan's layout does not depend on how busy the machine is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpopt.errors import KernelBuildFailed
from tpopt.passes.rematerialize.packing import EXHAUSTIVE, Block, Packing, greedy, lower_bound, packed, ranks

__all__ = ["ALIGNMENT", "EXHAUSTIVE", "Block", "Packing", "lower_bound", "pack"]

ALIGNMENT = 64
"""Bytes; a cache line, and what AVX-512 loads want."""
SEARCH_WORK = 20_000_000
"""Blocks times steps that one search may look at, 20 ms or so."""
SLACKS = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Parts of the lower bound that the arena may be larger, in the order in which they are tried."""


def pack(blocks: Sequence[Block]) -> Packing:
    """Packs blocks; deterministic, optimal where ``size == lower_bound`` and up to :data:`EXHAUSTIVE` blocks."""
    aligned = sorted(
        (Block(b.name, b.start, b.end, -(-b.size // ALIGNMENT) * ALIGNMENT) for b in blocks), key=lambda b: b.name
    )
    best = greedy(aligned, EXHAUSTIVE)
    if best.size > best.lower_bound and len(aligned) > EXHAUSTIVE:
        return next(_searched(aligned, best), best)
    return best


def _searched(blocks: Sequence[Block], best: Packing) -> Iterator[Packing]:
    """Smaller packings that depth-first search finds, the smallest first; none where nothing can be compiled."""
    from tpopt.backend.native.packer import search_offsets

    starts, ends, sizes = [b.start for b in blocks], [b.end + 1 for b in blocks], [b.size for b in blocks]
    limit = max(1, SEARCH_WORK // (len(blocks) * len({*starts, *ends})))
    for slack in SLACKS:
        capacity = int(best.lower_bound * (1 + slack)) // ALIGNMENT * ALIGNMENT
        if capacity >= best.size:
            return
        for rank in ranks(blocks):
            try:
                found = search_offsets(starts, ends, sizes, rank, capacity, limit, by_rank=False)
            except KernelBuildFailed:
                return
            if not isinstance(found, str):
                yield packed(blocks, {b.name: o for b, o in zip(blocks, found, strict=True)}, best.lower_bound)
