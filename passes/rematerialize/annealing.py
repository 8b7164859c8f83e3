"""Annealing of schedules in rounds: what to start from, how hot, and what memory above the budget costs.

The process itself is native and comes through :class:`tpopt.protocols.Annealer`: a move is a dozen additions to short
arrays, which takes half a microsecond there and a thousand times as long here. A protocol rather than a compiler of
Python functions, because the project compiles a small C file already, in a second and once for all processes, and
needs no further dependency for it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tpopt.passes.rematerialize.graph import ComputationGraph
from tpopt.passes.rematerialize.simulate import simulate
from tpopt.protocols import Annealer, AnnealerFactory, AnnealerGraph, Moves

LARGEST_LOAD: Final = 1 << 30
"""All sizes together are scaled to at most this, so that loads fit into 32 bits."""
REPEATING: Final = (1.0, 0.3, 0.15, 0.1, 0.1)
REORDERING: Final = (1.0, 0.0, 0.0, 0.0, 0.1)
"""Weights of the kinds of moves, with and without repeated computations."""
COLD: Final = 0.005
"""The last temperature of a round, in mean durations; at it hardly any worse schedule is taken."""
HOTTEST: Final = ((150.0, 30.0), (0.5, 0.2, 0.05, 1.0, 0.02, 0.5))
"""First temperatures of rounds in turn, in mean durations, of hot annealers and of warm ones.

Where live ranges are long, a move changes the price of what lies above the budget by a hundred mean durations, and only
heat of that size leaves a bad order: layered graphs of 1,000 nodes. Chains want repetitions alone, and little heat.
"""
WARM: Final = 1
SMALL: Final = 16
LARGE: Final = 500
"""Nodes up to which, and from which, it is tried whether a hot start is better."""
TRIED: Final = 3
"""Rounds in which some annealers are hot and some warm; afterwards all are what won more of them."""
PRICE: Final = 0.3
"""First price of one mean size above the budget at one step, in mean durations; rounds adapt it."""
CHEAPER: Final = 0.7
DEARER: Final = 2.0
"""What a price is multiplied by after a round that ended within the budget, or above it."""
ORDER_HEAT: Final = 100.0
"""First temperature where only the order may change, in mean durations that a mean size at one step costs."""
FIRST_STEP: Final = 0.1
LEAST_STEP: Final = 0.002
"""How far below the last peak a run for a better order aims: parts of the way to what no order undercuts."""
RUNS_OF_AN_ORDER: Final = 24
"""Such runs for each count of moves."""
PARTS: Final = (0.02, 0.05, 0.1, 0.15, 0.28, 0.4)
"""Parts of the moves that the rounds make: short ones first, so that there is an answer early."""
FASTER: Final = 2.0
"""How much faster than the round before a round may seem."""
TRIAL_MOVES: Final = 20_000
"""Moves that tell how many fit into a second."""


@dataclass
class Clock:
    """When to stop: at a number of moves where one is given (then the result depends on nothing else), or at a time."""

    seconds: float
    moves: int | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds until the end; those of a search that counts moves do not run out."""
        return math.inf if self.moves is not None else max(0.0, self.seconds - self.elapsed)

    @property
    def part(self) -> float:
        """The part of the time that is over; 0 where moves are counted."""
        return 0.0 if self.moves is not None else min(1.0, self.elapsed / self.seconds)


@dataclass
class Pace:
    """How many moves a round may make: a part of those that are left, or of what fits into the time that is left.

    The speed is that of the last round.
    """

    clock: Clock
    moves_per_second: float

    def __post_init__(self) -> None:
        self.moves_left = self.clock.moves

    @contextmanager
    def round(self, part: float) -> Iterator[int]:
        """The moves of a round that gets ``part`` of what is left; the round runs in the context."""
        if self.moves_left is not None:
            count = max(1, round(part * self.moves_left))
            yield count
            self.moves_left = max(0, self.moves_left - count)
            return
        count = max(1000, round(part * self.clock.left * self.moves_per_second))
        started = time.monotonic()
        yield count
        measured = count / max(time.monotonic() - started, 1e-3)
        self.moves_per_second = min(measured, FASTER * self.moves_per_second)  # a round may end before its moves do


@dataclass(frozen=True)
class Scaled:
    """A graph in units that fit the annealer. A unit of memory is ``unit`` bytes; sizes are rounded up to it."""

    arrays: AnnealerGraph
    unit: int
    mean_size: float
    mean_duration: float

    @staticmethod
    def of(graph: ComputationGraph) -> Scaled:
        """Divides by the greatest common divisor, and by more where the sizes are too large even so."""
        common = math.gcd(*graph.sizes, *graph.workspaces) or 1
        unit = common * max(1, -(-(sum(graph.sizes) + max(graph.workspaces)) // (common * LARGEST_LOAD)))
        sizes, workspaces = ([-(-size // unit) for size in row] for row in (graph.sizes, graph.workspaces))
        durations = [float(d) for d in graph.durations]
        arrays = AnnealerGraph(sizes, workspaces, durations, graph.predecessors, graph.successors, graph.repeatable)
        return Scaled(arrays, unit, statistics.fmean(sizes) or 1.0, statistics.fmean(graph.durations) or 1.0)


@dataclass
class Annealing:
    """Several annealers of one graph that share the best schedule after each round."""

    graph: ComputationGraph
    factory: AnnealerFactory
    keep_first: bool = False
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        self._scaled = Scaled.of(self.graph)
        self._annealers = [
            self.factory(self._scaled.arrays, keep_first=self.keep_first, seed=self.seed * 1_000_003 + k)
            for k in range(self.threads)
        ]
        self._prices = [PRICE * 3.0**k for k in range(self.threads)]
        self._pool = ThreadPoolExecutor(self.threads)
        self._round = 0
        self._wins = [0] * len(HOTTEST)

    def moves_per_second(self, start: Sequence[int], budget: int) -> float:
        """The speed of one annealer, with the others beside it."""
        started = time.monotonic()
        self._all(start, budget, Moves(TRIAL_MOVES, *self._heat(0.2, self._prices[0]), kinds=self._kinds(True)))
        return TRIAL_MOVES / max(time.monotonic() - started, 1e-9)

    def round(self, start: Sequence[int], budget: int, count: int) -> tuple[int, ...]:
        """One round of ``count`` moves in each annealer; the best schedule of all, ``start`` among them."""
        ladders = [self._ladder(k) for k in range(self.threads)]
        hot = [HOTTEST[i][(self._round + k) % len(HOTTEST[i])] for k, i in enumerate(ladders)]
        plans = [
            Moves(count, *self._heat(h, price), kinds=self._kinds(True))
            for h, price in zip(hot, self._prices, strict=True)
        ]
        jobs = [
            self._pool.submit(self._anneal, a, start, budget, p) for a, p in zip(self._annealers, plans, strict=True)
        ]
        found = [job.result() for job in jobs]
        for k, (_, excess) in enumerate(found):
            self._prices[k] *= CHEAPER if not excess else DEARER
        best = best_of(self.graph, budget, [sequence for sequence, _ in found])
        if self._round < TRIED:
            self._wins[next(i for i, (sequence, _) in zip(ladders, found, strict=True) if tuple(sequence) == best)] += 1
        self._round += 1
        return best_of(self.graph, budget, [start, best])

    def _ladder(self, k: int) -> int:
        """The ladder of temperatures of the k-th annealer; a single annealer tries them in turn.

        Graphs in between are annealed warm: their rounds are few, and better spent there.
        """
        if SMALL < len(self.graph) < LARGE:
            return WARM
        if self._round < TRIED or self.threads == 1:
            return (k + self._round * (self.threads == 1)) % len(HOTTEST)
        return self._wins.index(max(self._wins))

    def lowest_peak(self, start: Sequence[int], budget: int, count: int, floor: int) -> tuple[int, ...]:
        """Reorders ``start``, without repetitions, until it is within ``budget`` or ``count`` moves are made.

        Each run aims a step below the last peak; ``floor`` is what no order undercuts. Steps grow where they are taken
        and shrink where not, and begin anew when they are too small to count.
        """
        best, step, per_run = tuple(start), FIRST_STEP, max(count // RUNS_OF_AN_ORDER, 1000)
        peak = simulate(self.graph, best).peak
        while count > 0 and peak > max(budget, floor):
            target = max(budget, floor, math.floor(peak - max(1, step * (peak - floor))))
            moves = Moves(min(per_run, count), *self._heat(ORDER_HEAT, 1.0), kinds=self._kinds(False), stop_within=True)
            found = self._all(best, target, moves)
            count -= moves.count
            candidate = best_of(self.graph, target, [best, *found])
            reached = simulate(self.graph, candidate).peak
            step = step * 1.5 if reached <= target else step / 2
            step = min(step, 0.5) if step >= LEAST_STEP else FIRST_STEP
            best, peak = (candidate, reached) if reached < peak else (best, peak)
        return best

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _all(self, start: Sequence[int], budget: int, moves: Moves) -> list[tuple[int, ...]]:
        def one(annealer: Annealer) -> tuple[int, ...]:
            annealer.load(start, budget // self._scaled.unit)
            annealer.run(moves)
            return annealer.best()[0]

        return list(self._pool.map(one, self._annealers))

    def _anneal(self, annealer: Annealer, start: Sequence[int], budget: int, moves: Moves) -> tuple[Sequence[int], int]:
        """One annealing; where it ends above the budget, the remains are removed at a low temperature."""
        annealer.load(start, budget // self._scaled.unit)
        annealer.run(moves)
        sequence, _, excess = annealer.best()
        if not excess:
            return sequence, 0
        dear = Moves(moves.count // 8, moves.hot / 8, moves.cold, moves.price * 8, moves.kinds, stop_within=True)
        annealer.load(sequence, budget // self._scaled.unit)
        annealer.run(dear)
        return annealer.best()[0], excess

    def _heat(self, hot: float, price: float) -> tuple[float, float, float]:
        duration = self._scaled.mean_duration
        return hot * duration, COLD * duration, price * duration / self._scaled.mean_size

    def _kinds(self, repeating: bool) -> tuple[float, float, float, float, float]:
        kinds = REPEATING if repeating else REORDERING
        return (*kinds[:4], 0.0) if self.keep_first else kinds


def best_of(graph: ComputationGraph, budget: int, sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The fastest schedule within the budget; where there is none, that of the lowest peak. The first of equals."""

    def rank(sequence: Sequence[int]) -> tuple[int, int]:
        seen = simulate(graph, sequence)
        return max(seen.peak - budget, 0), seen.duration

    found = [tuple(sequence) for sequence in sequences]
    return min(found, key=rank)
