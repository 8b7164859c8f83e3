from __future__ import annotations

import random
from itertools import combinations, permutations

import pytest

from tpopt.runtime.packing import ALIGNMENT, Block, Packing, lower_bound, pack

SEEDS = range(60)


def blocks_of(seed: int, most: int) -> list[Block]:
    chance = random.Random(seed)
    starts = [chance.randint(0, 12) for _ in range(chance.randint(1, most))]
    return [Block(f"b{k}", s, s + chance.randint(0, 6), chance.randint(0, 900)) for k, s in enumerate(starts)]


def clashes(blocks: list[Block], packing: Packing) -> list[tuple[str, str]]:
    """Pairs that share a byte at some step, found byte by byte and step by step."""
    cells = {
        b.name: {(t, packing.offsets[b.name] + p) for t in range(b.start, b.end + 1) for p in range(b.size)}
        for b in blocks
    }
    return [(a, b) for a, b in combinations(cells, 2) if cells[a] & cells[b]]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_blocks_share_a_byte_at_one_time(seed: int):
    blocks = blocks_of(seed, 9)
    packing = pack(blocks)
    assert clashes(blocks, packing) == []
    assert max(packing.offsets[b.name] + b.size for b in blocks) <= packing.size


def test_the_check_for_clashes_finds_one():
    blocks = [Block("a", 0, 2, 10), Block("b", 2, 3, 10)]
    assert clashes(blocks, Packing({"a": 0, "b": 9}, 19, 0)) == [("a", "b")]


@pytest.mark.parametrize("seed", SEEDS)
def test_offsets_are_aligned_and_the_bound_is_the_busiest_step(seed: int):
    blocks = blocks_of(seed, 12)
    packing = pack(blocks)
    live = [sum(-(-b.size // ALIGNMENT) * ALIGNMENT for b in blocks if b.start <= t <= b.end) for t in range(20)]
    assert packing.lower_bound == max(live) <= packing.size
    assert {offset % ALIGNMENT for offset in packing.offsets.values()} == {0}


def least_size(blocks: list[Block]) -> int:
    """The smallest arena over every order of placing each block as low as it goes, at every aligned offset."""
    total = best = sum(b.size for b in blocks)
    for order in permutations(blocks):
        placed: list[tuple[int, Block]] = []
        for b in order:
            others = [(o, c) for o, c in placed if c.start <= b.end and b.start <= c.end]
            low = next(
                o for o in range(0, total + 1, ALIGNMENT) if all(o + b.size <= p or p + c.size <= o for p, c in others)
            )
            placed.append((low, b))
        best = min(best, max(o + b.size for o, b in placed))
    return best


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_optimal_on_few_blocks(seed: int):
    blocks = [Block(b.name, b.start, b.end, -(-b.size // ALIGNMENT) * ALIGNMENT) for b in blocks_of(seed, 5)]
    assert pack(blocks).size == least_size(blocks)


GAP = {"a": (0, 3, 4), "b": (0, 1, 4), "c": (7, 9, 6), "d": (2, 2, 5), "e": (7, 9, 1), "f": (3, 8, 3)}


def test_where_every_greedy_order_leaves_a_gap_all_orders_are_tried(monkeypatch: pytest.MonkeyPatch):
    blocks = [Block(n, start, end, size * ALIGNMENT) for n, (start, end, size) in GAP.items()]
    assert pack(blocks).size == pack(blocks).lower_bound == 10 * ALIGNMENT
    monkeypatch.setattr("tpopt.runtime.packing.EXHAUSTIVE", 0)
    monkeypatch.setattr("tpopt.runtime.packing.SLACKS", ())
    assert pack(blocks).size == 12 * ALIGNMENT


def test_where_every_greedy_order_leaves_a_gap_the_search_closes_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpopt.runtime.packing.EXHAUSTIVE", 0)
    blocks = [Block(n, start, end, size * ALIGNMENT) for n, (start, end, size) in GAP.items()]
    assert pack(blocks).size == 10 * ALIGNMENT
    assert clashes(blocks, pack(blocks)) == []


@pytest.mark.parametrize("seed", range(20))
def test_many_blocks_take_hardly_more_than_the_busiest_step(seed: int):
    chance = random.Random(seed)
    starts = [chance.randint(0, 60) for _ in range(80)]
    blocks = [Block(f"b{k}", s, s + chance.randint(0, 12), chance.randint(1, 90) * 640) for k, s in enumerate(starts)]
    packing = pack(blocks)
    assert packing.size <= 1.05 * packing.lower_bound


def test_the_same_blocks_in_another_order_are_packed_alike():
    blocks = blocks_of(3, 12)
    assert pack(blocks) == pack(blocks[::-1])


def test_nothing_to_pack_needs_nothing():
    assert pack([]) == Packing({}, 0, 0)
    assert lower_bound([]) == 0
