"""Arena offsets: intervals of time with sizes, packed so that no two that overlap in time overlap in space.

Greedy best fit over several orders, each placed at the lowest offset that fits; the best result is kept and compared
with the lower bound (the most bytes alive at one time). Dynamic storage allocation; the orders are those of
Sekiyama et al., "Profile-guided memory optimization for deep neural networks", and of TFLite's greedy planners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

ALIGNMENT = 64
"""Bytes; a cache line, and what AVX-512 loads want."""
EXHAUSTIVE = 6
"""Up to this many blocks every order is tried (720 of them) where the greedy ones leave a gap."""


@dataclass(frozen=True)
class Block:
    """``size`` bytes needed from step ``start`` to step ``end``, both included."""

    name: str
    start: int
    end: int
    size: int


@dataclass(frozen=True)
class Packing:
    """Offsets by name, the arena's size, and the bytes alive at the busiest step (no packing can be smaller)."""

    offsets: dict[str, int]
    size: int
    lower_bound: int


_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.start),
    lambda b: (-(b.end - b.start), -b.size, b.start),
    lambda b: (-b.size * (b.end - b.start + 1), b.start),
    lambda b: (b.start, -b.size),
)


def pack(blocks: Sequence[Block]) -> Packing:
    """Packs blocks; deterministic, optimal where ``size == lower_bound`` and up to :data:`EXHAUSTIVE` blocks."""
    aligned = [Block(b.name, b.start, b.end, -(-b.size // ALIGNMENT) * ALIGNMENT) for b in blocks]
    bound = lower_bound(aligned)
    best: Packing | None = None
    for order in _orders(aligned):
        offsets = _place(order)
        size = max((offsets[b.name] + b.size for b in aligned), default=0)
        if best is None or size < best.size:
            best = Packing(offsets, size, bound)
        if best.size == bound:
            break
    return best or Packing({}, 0, 0)


def _orders(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """What to place first: by each greedy rule, then every order of few blocks (one of them is optimal)."""
    for rule in _ORDERS:
        yield sorted(blocks, key=lambda b: (*rule(b), b.name))
    if len(blocks) <= EXHAUSTIVE:
        yield from permutations(sorted(blocks, key=lambda b: b.name))


def lower_bound(blocks: Sequence[Block]) -> int:
    """The most bytes alive at one step."""
    changes: dict[int, int] = {}
    for b in blocks:
        changes[b.start] = changes.get(b.start, 0) + b.size
        changes[b.end + 1] = changes.get(b.end + 1, 0) - b.size
    live = most = 0
    for step in sorted(changes):
        live += changes[step]
        most = max(most, live)
    return most


def _place(order: Sequence[Block]) -> dict[str, int]:
    placed: list[tuple[int, Block]] = []
    offsets: dict[str, int] = {}
    for block in order:
        busy = sorted((o, o + b.size) for o, b in placed if b.start <= block.end and block.start <= b.end)
        offset = 0
        for low, high in busy:
            if low - offset >= block.size:
                break
            offset = max(offset, high)
        offsets[block.name] = offset
        placed.append((offset, block))
    return offsets
