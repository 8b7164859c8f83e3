"""From a graph and a budget to the best schedule that the time allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tpopt.errors import UsageError
from tpopt.passes.rematerialize.annealing import PARTS, Annealing, Clock, Pace, best_of
from tpopt.passes.rematerialize.bounds import free_bound, order_bound
from tpopt.passes.rematerialize.fixed_order import MOST_REPETITIONS, gap_bound, repetitions, solve_fixed
from tpopt.passes.rematerialize.graph import ComputationGraph
from tpopt.passes.rematerialize.moccasin import moccasin
from tpopt.passes.rematerialize.orders import orders
from tpopt.passes.rematerialize.pebbling import MOST_TRIALS, reach
from tpopt.passes.rematerialize.schedule import Progress, Schedule, schedule_of
from tpopt.passes.rematerialize.simulate import simulate
from tpopt.protocols import MOST_COMPUTATIONS, AnnealerFactory

Mode: TypeAlias = Literal["free", "fixed", "order", "moccasin"]
"""What may change: order and repetitions; repetitions alone (first computations keep their order); the order alone.

``moccasin`` is the fixed order by the published program, for comparison.
"""
BOUND_PART: Final = 0.1
PROOF_PART: Final = 0.5
"""Parts of the time for the bound on time, and for the proof of a fixed order where the graph is small."""
TRIALS_A_SECOND: Final = 10_000
"""Of the search for any schedule that fits, for each second of the whole: about a tenth of the time."""
LONGEST: Final = 2
"""Steps for each node that a schedule may have from which annealing goes on: annealers hold that many, and moves."""
INPUT_ORDER_PART: Final = 0.25
"""Part of the time for the program of the input order, where the order is free."""
ORDER_PART: Final = 0.15
"""Part of the moves that look for an order without repetitions, where those may be used as well."""


@dataclass(frozen=True)
class Search:
    """How to look: for ``seconds``, or for ``moves`` of each annealer (then the result depends on nothing else)."""

    mode: Mode = "free"
    seconds: float = 30.0
    moves: int | None = None
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        if not self.seconds > 0 or (self.moves is not None and self.moves < 1) or self.threads < 1:
            raise UsageError(f"seconds, moves and threads must be positive; they are {self}")


def rematerialize(
    graph: ComputationGraph,
    budget: int | None,
    search: Search | None = None,
    *,
    annealer: AnnealerFactory | None = None,
    progress: Progress | None = None,
) -> Schedule:
    """The fastest schedule that keeps ``budget`` bytes, or that of the lowest peak where none is found.

    Orders without repetitions come first, then a bound that says how far from optimal the answer can be, then annealing
    in rounds and (for a fixed order) the constraint program. The result is what the simulator says of it. Ctrl-C ends
    the search with the best schedule so far.

    Args:
        graph: what to compute.
        budget: bytes, in the unit of the graph's sizes; None asks for the order of the lowest peak (mode ``order``).
        search: how to look, and for how long.
        annealer: makes annealers; without one, only orders and the constraint programs are tried.
        progress: told what is going on.

    Raises:
        UsageError: there is no budget, and ``search.mode`` is not ``order``.
    """
    search = search or Search()
    if budget is None and search.mode != "order":
        raise UsageError("budget is None: only the mode 'order' looks for the lowest peak")
    lowest = order_bound(graph) if search.mode == "order" else graph.structural_bound
    run = _Run(
        graph,
        lowest if budget is None else budget,
        lowest,
        search,
        Clock(search.seconds, search.moves),
        annealer,
        progress or _silent,
    )
    try:
        for step in (run.moccasin,) if search.mode == "moccasin" else (run.orders, run.bound, run.search_all):
            if not run.finished:
                step()
    except KeyboardInterrupt:
        run.tell("interrupted", 1.0)
    run.keep(run.waiting)
    return schedule_of(
        graph,
        budget,
        run.best,
        lowest_peak=lowest,
        lower_bound=run.lower_bound,
        exhausted=run.exhausted,
        seconds=run.clock.elapsed,
    )


def _silent(stage: str, part: float) -> None:
    pass


RESTARTS: Final = 8
"""Searches from other starts, where the first ends above the budget."""
SMALL: Final = 16
"""Nodes up to which other starts are tried in any case."""


@dataclass
class _Run:
    """One search: what is known so far."""

    graph: ComputationGraph
    budget: int
    lowest_peak: int
    """Bytes that no schedule of the mode undercuts."""
    search: Search
    clock: Clock
    factory: AnnealerFactory | None
    progress: Progress

    def __post_init__(self) -> None:
        self.best: tuple[int, ...] = self.graph.order
        self.lower_bound = self.graph.duration
        self.waiting: list[tuple[int, ...]] = []
        """Schedules that nothing goes on from."""
        self.exhausted = False
        """Whether it is proved that nothing is better than ``best``, or that nothing fits."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to find."""
        seen = simulate(self.graph, self.best)
        within = seen.peak <= self.budget and seen.duration <= self.lower_bound
        lowest = max(self.budget, self.lowest_peak)
        return self.exhausted or within or (self.budget < self.lowest_peak and seen.peak <= lowest)

    def tell(self, stage: str, part: float) -> None:
        """Reports progress."""
        self.progress(stage, part)

    def keep(self, sequences: Sequence[Sequence[int]]) -> None:
        """Keeps the best of the best so far and others."""
        self.best = best_of(self.graph, self.budget, [self.best, *sequences])

    def adopt(self, sequence: Sequence[int] | None) -> None:
        """Keeps what a constraint program found; one that annealers do not hold waits until the end."""
        before = self.best
        self.keep([] if sequence is None else [sequence])
        most = max(Counter(self.best).values(), default=0)
        if not self.finished and (len(self.best) > LONGEST * len(self.graph.sizes) or most > MOST_COMPUTATIONS):
            self.waiting.append(self.best)
            self.best = before

    def orders(self) -> None:
        """Orders without repetitions, by simple rules."""
        self.tell("orders", 0.0)
        if self.search.mode != "fixed":
            self.keep(list(orders(self.graph, self.search.seed)))

    def moccasin(self) -> None:
        """Both phases of the published program; the clock is divided between them."""
        self.tell("solving", 0.0)
        seconds = self.search.seconds / 2
        found = moccasin(self.graph, self.budget, seconds, workers=self.search.threads)
        self.keep([found] if found is not None else [])

    def bound(self) -> None:
        """A bound from below on the time, or the proof that nothing fits."""
        if self.search.mode == "order":
            return
        if self.lowest_peak > self.budget:
            self.exhausted = True
            return
        self.tell("bounding", 0.0)
        method = gap_bound if self.search.mode == "fixed" else free_bound
        seconds, counted = BOUND_PART * self.search.seconds, self.search.moves is not None
        found = method(self.graph, self.budget, seconds, deterministic=counted)
        self.lower_bound, self.exhausted = found.bound, found.infeasible
        if not self.exhausted and simulate(self.graph, self.best).peak > self.budget:
            self.reach()

    def reach(self) -> None:
        """Any schedule that fits, however slow, or the proof that there is none."""
        timed = round(TRIALS_A_SECOND * self.search.seconds)
        found = reach(
            self.graph, self.budget, MOST_TRIALS if self.search.moves is not None else min(MOST_TRIALS, timed)
        )
        self.exhausted = found.infeasible
        if found.sequence is not None and self.search.mode == "free":
            self.waiting.append(found.sequence)

    def search_all(self) -> None:
        """Annealing until the moves or the time are used up; after its first round, the proof where one is in reach."""
        if self.factory is None:
            self.prove()
            self.input_order()
            return
        search, mode = self.search, self.search.mode
        annealing = Annealing(
            self.graph, self.factory, keep_first=mode == "fixed", seed=search.seed, threads=search.threads
        )
        try:
            pace = Pace(self.clock, annealing.moves_per_second(self.best, self.budget))
            if mode != "fixed":
                self._order_rounds(annealing, pace, 1.0 if mode == "order" else ORDER_PART)
            for k, part in enumerate(PARTS if mode != "order" else ()):
                if self.finished:
                    return
                self.tell(f"annealing, round {k + 1} of {len(PARTS)}", self.clock.part)
                with pace.round(part / sum(PARTS[k:])) as count:
                    self.keep([annealing.round(self.best, self.budget, count)])
                if k == 1 and not self.finished:
                    self.prove()
                    self.input_order()
        finally:
            annealing.close()
        if mode == "free" and self.search.moves is not None:
            self._again(self.search.moves)

    def _again(self, moves: int) -> None:
        """As many moves from other starts, where the first found nothing that fits: the way in may be narrow.

        So may be the way to the optimum of a small graph, whose schedules differ in every step.
        """
        assert self.factory is not None
        starts = [self.graph.order, *orders(self.graph, self.search.seed)]
        for k, first in enumerate(starts[:RESTARTS]):
            within = simulate(self.graph, self.best).peak <= self.budget
            if self.finished or (within and len(self.graph) > SMALL):
                return
            found, seed = first, self.search.seed + k + 1
            annealing = Annealing(self.graph, self.factory, seed=seed, threads=self.search.threads)
            try:
                for part in (0.2, 0.3, 0.5):
                    found = annealing.round(found, self.budget, max(1, round(part * moves / RESTARTS)))
                    self.keep([found])
            finally:
                annealing.close()

    def _order_rounds(self, annealing: Annealing, pace: Pace, part: float) -> None:
        """An order without repetitions: it costs nothing, and it is a good start where it does not suffice."""
        lowest = min(orders(self.graph, self.search.seed), key=lambda s: simulate(self.graph, s).peak)
        floor = self.lowest_peak if self.search.mode == "order" else order_bound(self.graph)
        for share in (0.25, 0.75, 0.95) if self.search.mode == "order" else (0.25, 0.75):
            if self.finished:
                return
            self.tell("annealing the order", self.clock.part)
            with pace.round(part * share) as count:
                lowest = annealing.lowest_peak(lowest, self.budget, count, floor)
            self.keep([lowest])

    def input_order(self) -> None:
        """The constraint program of the input order, for a search that may leave it: it is often hard to beat.

        A search that counts moves does without, so that it depends on nothing else.
        """
        if self.search.mode != "free" or self.search.moves is not None or self.clock.left <= 0:
            return
        if not repetitions(self.graph, MOST_REPETITIONS):
            return
        self.tell("solving the input order", self.clock.part)
        seconds, workers = INPUT_ORDER_PART * self.search.seconds, self.search.threads
        found = solve_fixed(self.graph, self.budget, self.graph.order, seconds, workers=workers)
        self.adopt(found.sequence)

    def prove(self) -> None:
        """The constraint program of a fixed order, where the graph is small enough."""
        if self.search.mode != "fixed" or self.clock.left <= 0 or not repetitions(self.graph, MOST_REPETITIONS):
            return
        self.tell("proving", self.clock.part)
        seconds = PROOF_PART * self.search.seconds
        found = solve_fixed(
            self.graph,
            self.budget,
            self.best,
            seconds,
            workers=self.search.threads,
            deterministic=self.search.moves is not None,
        )
        self.lower_bound = max(self.lower_bound, found.bound)
        self.exhausted = found.infeasible
        self.adopt(found.sequence)
