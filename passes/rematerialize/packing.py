"""Offsets in one arena: blocks with lifetimes, placed so that no two that are alive together share a byte.

Dynamic storage allocation. First greedily over several orders, each block as low as it fits (the orders are those of
Sekiyama et al., "Profile-guided memory optimization for deep neural networks", and of TFLite's planners); then, where
that leaves a gap above the busiest step, depth-first search (:class:`tpopt.protocols.OffsetSearch`) from several ranks
and CP-SAT's two-dimensional no-overlap in turn.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Final, Literal

from ortools.sat.python import cp_model

from tpopt.errors import UsageError
from tpopt.passes.rematerialize.annealing import Clock
from tpopt.protocols import OffsetSearch

EXHAUSTIVE: Final = 6
"""Up to this many blocks every order is tried (720 of them) where the greedy ones leave a gap."""
TURNS: Final = (20.0, 25.0)
"""Seconds of depth-first search and of CP-SAT in turn."""
PLACEMENTS: Final = 20_000
"""Placements of the first searches; later ones get more."""
NOISE: Final = 0.3
"""By how much the criterion of a rank is blurred from the second round on, as a part of itself."""


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


@dataclass(frozen=True)
class Fit:
    """A packing and whether it is within the capacity: ``feasible``, ``infeasible`` (proved) or ``unknown``."""

    packing: Packing
    status: Literal["feasible", "infeasible", "unknown"]


def read_blocks(path: Path) -> list[Block]:
    """Reads minimalloc's CSV: columns ``id,lower,upper,size`` in any order; a block is alive in ``[lower, upper)``.

    Raises :class:`UsageError` that names the line for what is no such file.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    blocks: dict[str, Block] = {}
    for line, row in enumerate(rows, start=2):
        try:
            name, low, high, size = row["id"], int(row["lower"]), int(row["upper"]), int(row["size"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}, line {line}: expected whole numbers in columns lower, upper, size") from error
        if low >= high or size < 0 or name in blocks:
            raise UsageError(f"{path}, line {line}: ids differ, lower is below upper, and no size is negative")
        blocks[name] = Block(name, low, high - 1, size)
    if not blocks:
        raise UsageError(f"{path} has no blocks")
    return list(blocks.values())


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


def greedy(blocks: Sequence[Block], exhaustive: int = EXHAUSTIVE) -> Packing:
    """The best of the greedy orders; optimal where ``size == lower_bound``, and up to ``exhaustive`` blocks."""
    bound = lower_bound(blocks)
    best: Packing | None = None
    for order in _orders(blocks, exhaustive):
        packing = packed(blocks, _place(order), bound)
        if best is None or packing.size < best.size:
            best = packing
        if best.size == bound:
            break
    return best or Packing({}, 0, 0)


def packed(blocks: Sequence[Block], offsets: dict[str, int], bound: int) -> Packing:
    """A packing of given offsets."""
    return Packing(offsets, max((offsets[b.name] + b.size for b in blocks), default=0), bound)


def fit(
    blocks: Sequence[Block],
    capacity: int,
    seconds: float,
    *,
    search: OffsetSearch | None,
    threads: int = 2,
    seed: int = 0,
) -> Fit:
    """Packs blocks within a capacity; the best greedy packing where none is found in time."""
    clock, best = Clock(seconds), greedy(blocks)
    if best.size <= capacity:
        return Fit(best, "feasible")
    if best.lower_bound > capacity:
        return Fit(best, "infeasible")
    attempts = _Attempts(blocks, capacity, random.Random(seed), threads)  # noqa: S311 - a search, no secret
    while clock.left > 0:
        if search is not None:
            found = attempts.search(search, min(TURNS[0], clock.left))
            if found is not None:
                return _answer(blocks, best, found)
        found = attempts.solve(min(TURNS[1], clock.left))
        if found is not None:
            return _answer(blocks, best, found)
    return Fit(best, "unknown")


def ranks(blocks: Sequence[Block], chance: random.Random | None = None) -> Iterator[list[int]]:
    """Ranks to search from: by the load that a block lives under, its length, its area, its size."""
    loads = _loads(blocks)
    lengths = [b.end - b.start + 1 for b in blocks]
    areas = [b.size * n for b, n in zip(blocks, lengths, strict=True)]
    sizes = [b.size for b in blocks]
    for first, second in ((loads, areas), (lengths, sizes), (areas, sizes), (sizes, lengths)):
        blur = [1.0 + NOISE * chance.random() for _ in blocks] if chance else [1.0] * len(blocks)
        order = sorted(range(len(blocks)), key=lambda k, f=first, s=second, b=blur: (-f[k] * b[k], -s[k], k))  # type: ignore[misc]
        rank = [0] * len(blocks)
        for position, k in enumerate(order):
            rank[k] = position
        yield rank


@dataclass
class _Attempts:
    """The searches of one :func:`fit`, each of which goes on where its last turn ended."""

    blocks: Sequence[Block]
    capacity: int
    chance: random.Random
    threads: int

    def __post_init__(self) -> None:
        self._round = 0

    def search(self, search: OffsetSearch, seconds: float) -> list[int] | Literal["infeasible"] | None:
        """Depth-first search from all ranks, in both orders of trying, with more placements from round to round."""
        clock = Clock(seconds)
        starts, ends = [b.start for b in self.blocks], [b.end + 1 for b in self.blocks]
        sizes = [b.size for b in self.blocks]

        def one(job: tuple[list[int], bool]) -> Any:
            if clock.left <= 0:
                return "limit"
            limit = PLACEMENTS * (1 + self._round // 2)
            return search(starts, ends, sizes, job[0], self.capacity, limit, by_rank=job[1])

        with ThreadPoolExecutor(self.threads) as pool:
            while clock.left > 0:
                blurred = ranks(self.blocks, self.chance if self._round else None)
                jobs = [(rank, by_rank) for rank in blurred for by_rank in (False, True)]
                for found in pool.map(one, jobs):
                    if found != "limit":
                        return "infeasible" if found == "none" else list(found)
                self._round += 1
        return None

    def solve(self, seconds: float) -> list[int] | Literal["infeasible"] | None:
        """CP-SAT: fixed intervals of time, free intervals of addresses, no overlap."""
        unit = math.gcd(self.capacity, *(b.size for b in self.blocks))
        model = cp_model.CpModel()
        blocks = [b for b in self.blocks if b.size]
        lows = [model.new_int_var(0, (self.capacity - b.size) // unit, b.name) for b in blocks]
        times = [model.new_fixed_size_interval_var(b.start, b.end - b.start + 1, "") for b in blocks]
        spaces = [model.new_fixed_size_interval_var(y, b.size // unit, "") for y, b in zip(lows, blocks, strict=True)]
        model.add_no_overlap_2d(times, spaces)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = self.threads
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.random_seed = self.chance.randrange(1000)
        status = solver.solve(model)
        if status == cp_model.INFEASIBLE:
            return "infeasible"
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return None
        found = {b.name: solver.value(y) * unit for y, b in zip(lows, blocks, strict=True)}
        return [found.get(b.name, 0) for b in self.blocks]


def _answer(blocks: Sequence[Block], best: Packing, found: list[int] | Literal["infeasible"]) -> Fit:
    if isinstance(found, str):
        return Fit(best, "infeasible")
    offsets = {b.name: offset for b, offset in zip(blocks, found, strict=True)}
    return Fit(packed(blocks, offsets, best.lower_bound), "feasible")


def _loads(blocks: Sequence[Block]) -> list[int]:
    """For each block the most bytes alive at one step of its life."""
    steps = sorted({b.start for b in blocks})  # the load is highest where something starts
    alive = {t: sum(b.size for b in blocks if b.start <= t <= b.end) for t in steps}
    return [max(alive[t] for t in steps if b.start <= t <= b.end) for b in blocks]


_ORDERS: Final[tuple[Callable[[Block], tuple[int, ...]], ...]] = (
    lambda b: (-b.size, b.start),
    lambda b: (-(b.end - b.start), -b.size, b.start),
    lambda b: (-b.size * (b.end - b.start + 1), b.start),
    lambda b: (b.start, -b.size),
)


def _orders(blocks: Sequence[Block], exhaustive: int) -> Iterator[Sequence[Block]]:
    """What to place first: by each greedy rule, then every order of few blocks (one of them is optimal)."""
    for rule in _ORDERS:
        yield sorted(blocks, key=lambda b: (*rule(b), b.name))
    if len(blocks) <= exhaustive:
        yield from permutations(sorted(blocks, key=lambda b: b.name))


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
