from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from tpopt.backend.native.packer import search_offsets
from tpopt.errors import UsageError
from tpopt.passes.rematerialize.packing import Block, Fit, fit, greedy, ranks, read_blocks

HEADER = "id,lower,upper,size"


def cut(capacity: int, horizon: int, pieces: int, seed: int) -> list[Block]:
    """Blocks that fill a rectangle without a gap: it is cut in two at random until there are enough."""
    chance = random.Random(seed)
    rectangles = [(0, horizon, 0, capacity)]
    while len(rectangles) < pieces:
        left, right, low, high = rectangles.pop(
            max(range(len(rectangles)), key=lambda k: _area(rectangles[k]) * chance.random())
        )
        if chance.random() < 0.5 and right - left > 1:
            at = chance.randint(left + 1, right - 1)
            rectangles += [(left, at, low, high), (at, right, low, high)]
        elif high - low > 1:
            at = chance.randint(low + 1, high - 1)
            rectangles += [(left, right, low, at), (left, right, at, high)]
        else:
            rectangles.append((left, right, low, high))
    return [Block(str(k), a, b - 1, d - c) for k, (a, b, c, d) in enumerate(rectangles)]


def _area(rectangle: tuple[int, int, int, int]) -> int:
    left, right, low, high = rectangle
    return (right - left) * (high - low)


def clashes(blocks: list[Block], found: Fit) -> list[tuple[str, str]]:
    offsets = found.packing.offsets
    return [
        (a.name, b.name)
        for a, b in combinations(blocks, 2)
        if a.start <= b.end
        and b.start <= a.end
        and offsets[a.name] < offsets[b.name] + b.size
        and offsets[b.name] < offsets[a.name] + a.size
    ]


@pytest.mark.parametrize("seed", range(6))
def test_blocks_that_fill_a_rectangle_are_placed_without_a_gap(seed: int):
    blocks = cut(1000, 40, 24, seed)
    found = fit(blocks, 1000, 30, search=search_offsets)
    assert (found.status, found.packing.size, clashes(blocks, found)) == ("feasible", 1000, [])


def test_the_constraint_program_places_them_too():
    blocks = cut(60, 12, 10, seed=1)
    found = fit(blocks, 60, 30, search=None)
    assert (found.status, clashes(blocks, found)) == ("feasible", [])


def test_more_than_the_busiest_step_holds_is_infeasible():
    assert fit([Block("a", 0, 1, 5), Block("b", 1, 2, 5)], 9, 5, search=search_offsets).status == "infeasible"


def test_the_search_says_when_it_gave_up_and_when_nothing_is_left():
    blocks = cut(1000, 40, 60, seed=3)
    arrays = [b.start for b in blocks], [b.end + 1 for b in blocks], [b.size for b in blocks]
    rank = next(ranks(blocks))
    assert search_offsets(*arrays, rank, 1000, 10, by_rank=False) == "limit"
    assert search_offsets(*arrays, rank, 999, 10, by_rank=False) == "none"


def test_greedy_is_at_its_bound_where_sizes_shrink_with_time():
    packing = greedy([Block("a", 0, 3, 8), Block("b", 1, 3, 4), Block("c", 2, 3, 2)])
    assert packing.size == packing.lower_bound == 14


def test_a_file_is_read_with_half_open_lifetimes(tmp_path: Path):
    file = tmp_path / "blocks.csv"
    file.write_text(f"{HEADER}\na,0,2,10\nb,2,3,10\n")
    assert read_blocks(file) == [Block("a", 0, 1, 10), Block("b", 2, 2, 10)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{HEADER}\n", "has no blocks"),
        (f"{HEADER}\na,0,x,1\n", "line 2: expected whole numbers"),
        ("id,lower,size\na,0,1\n", "line 2: expected whole numbers"),
        (f"{HEADER}\na,2,2,1\n", "line 2: ids differ, lower is below upper"),
        (f"{HEADER}\na,0,2,1\na,0,2,1\n", "line 3: ids differ"),
    ],
)
def test_a_file_that_holds_no_blocks_says_why(text: str, reason: str, tmp_path: Path):
    file = tmp_path / "blocks.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_blocks(file)
