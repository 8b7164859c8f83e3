"""What can be decided otherwise about the loops of a nest, as a few small numbers: the space that tuning searches.

The schedule of :mod:`tpopt.backend.generated.schedule` is one point of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import prod

from tpopt.backend.generated.access import Access
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import KernelPlan, Nest, Sweep
from tpopt.backend.generated.schedule import parts
from tpopt.backend.generated.sizes import extent
from tpopt.errors import KernelUnsupported
from tpopt.ir import Iter

COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16)
"""Steps side by side of one loop."""
MOST_LANES = 64
MOST_STEPS = 32
"""Tiles of more accumulators than there are registers only spill."""


@dataclass(frozen=True)
class Decision:
    """How the own loops of one nest run.

    ``vector`` is the position of the loop that lies in vectors of ``lanes`` (-1: none), ``counts`` are the steps side
    by side of each loop, ``order`` their positions from the outside in, ``parallel`` of which run in parallel as one.
    ``across`` are the vectors side by side along a reduced iterator, of ``lanes``, where no loop lies in vectors
    (0: none). ``divided`` is the position of the loop that threads divide among them (-1: none).
    """

    vector: int
    lanes: int
    counts: tuple[int, ...]
    order: tuple[int, ...]
    parallel: int
    across: int = 0
    divided: int = -1

    @staticmethod
    def of(nest: Nest) -> Decision:
        """What a nest decides."""
        loops = nest.work.loops[nest.depth :]
        vector = -1 if nest.vector is None else loops.index(nest.vector)
        sweep = next(iter(nest.across.values()), None) if vector < 0 else None
        lanes = nest.sweeps[loops[vector]].lanes if vector >= 0 else sweep.lanes if sweep else 1
        counts = tuple(nest.sweeps.get(i, Sweep()).count for i in loops)
        order = tuple(loops.index(i) for i in nest.order)
        divided = -1 if nest.divided is None else loops.index(nest.divided)
        return Decision(vector, lanes, counts, order, nest.parallel, sweep.count if sweep else 0, divided)


def encode(decisions: Sequence[Decision]) -> str:
    """Decisions of the nests of a kernel, in their order, as text."""
    rows = [[d.vector, d.lanes, list(d.counts), list(d.order), d.parallel, d.across, d.divided] for d in decisions]
    return json.dumps(rows, separators=(",", ":"))


def decode(text: str) -> tuple[Decision, ...]:
    """What :func:`encode` made. Raises :class:`KernelUnsupported` for other text."""
    try:
        rows = [
            Decision(int(v), int(lanes), tuple(map(int, counts)), tuple(map(int, order)), *map(int, rest))
            for v, lanes, counts, order, *rest in json.loads(text)
        ]
    except (ValueError, TypeError, RecursionError) as error:
        raise KernelUnsupported(f"{text[:80]!r} says no loops of a kernel: {error}") from error
    return tuple(rows)


def decided(nest: Nest, decision: Decision, reduced: Sequence[Iter], threads: int) -> Nest:
    """The nest with its loops run as decided. Raises :class:`KernelUnsupported` where they cannot be.

    ``reduced`` are the iterators that may lie in vectors across.
    """
    loops = nest.work.loops[nest.depth :]
    problem = _problem(decision, loops, reduced)
    if problem is not None:
        raise KernelUnsupported(f"{encode([decision])} does not fit {nest.work.outs[0].name}: {problem}")
    sweeps = {
        i: Sweep(decision.lanes if n == decision.vector else 1, count)
        for n, (i, count) in enumerate(zip(loops, decision.counts, strict=True))
        if count > 1 or n == decision.vector
    }
    across = {i: Sweep(decision.lanes, decision.across) for i in reduced} if decision.across else {}
    parallel = decision.parallel if nest.depth == 0 else 0
    order = tuple(loops[n] for n in decision.order)
    divided = loops[decision.divided] if nest.depth == 0 and decision.divided >= 0 else None
    shares = parts(divided, sweeps, threads) if divided is not None else 1
    return replace(nest, order=order, sweeps=sweeps, across=across, parallel=parallel, divided=divided, shares=shares)


def _problem(decision: Decision, loops: Sequence[Iter], reduced: Sequence[Iter]) -> str | None:
    lanes = decision.lanes
    if len(decision.counts) != len(loops) or sorted(decision.order) != list(range(len(loops))):
        return f"it has {len(loops)} loops"
    if not 1 <= lanes <= MOST_LANES or lanes & (lanes - 1) or not -1 <= decision.vector < len(loops):
        return "vectors have a power of two of lanes, along a loop"
    if decision.across and (decision.vector >= 0 or not reduced or not 0 < decision.across <= MOST_STEPS):
        return "no reduced iterator can lie in vectors"
    if prod(map(abs, decision.counts)) > MOST_STEPS:
        return f"more than {MOST_STEPS} steps side by side"
    for number, (iterator, count) in enumerate(zip(loops, decision.counts, strict=True)):
        own = lanes if number == decision.vector else 1
        if not 1 <= count <= max(1, extent(iterator) // own):
            return f"{iterator.name} has {extent(iterator)} points"
    if decision.across and decision.across * lanes > max(_shortest(reduced), lanes):
        return f"the shortest reduction has {_shortest(reduced)} points"
    if not -1 <= decision.divided < len(loops) or (decision.divided >= 0 and decision.parallel):
        return "one loop is divided, or leading ones run in parallel"
    return None if 0 <= decision.parallel <= len(loops) else "so many loops cannot run in parallel"


def _shortest(iters: Sequence[Iter]) -> int:
    return min(map(extent, iters))


class Space:
    """The decisions of one kernel: drawn at random, or near a given one.

    A decision is a tuple of one :class:`Decision` a nest.
    """

    def __init__(self, plan: KernelPlan, processor: Processor, reduced: Sequence[Sequence[Iter]]) -> None:
        self.start = tuple(map(Decision.of, plan.nests))
        self._nests, self._processor, self._reduced = plan.nests, processor, tuple(reduced)

    def draw(self, rng: random.Random) -> tuple[Decision, ...]:
        """Any point of the space."""
        return tuple(self._nest(n, d, rng) for n, d in enumerate(self.start))

    def near(self, given: Sequence[Decision], rng: random.Random) -> tuple[Decision, ...]:
        """A point that differs from a given one in one respect of one nest, or two."""
        changed = list(given)
        place = rng.randrange(len(changed))
        other = self._nest(place, changed[place], rng)
        names = rng.sample(("vector", "counts", "order", "parallel"), rng.choice((1, 1, 2)))
        taken: dict[str, object] = {name: getattr(other, name) for name in names}
        if "parallel" in taken:
            taken |= {"divided": other.divided}
        if "vector" in taken:
            taken |= {"lanes": other.lanes, "across": other.across, "counts": other.counts}
        changed[place] = replace(changed[place], **taken)  # type: ignore[arg-type]
        return tuple(changed)

    def sample(self, count: int, seed: int) -> list[tuple[Decision, ...]]:
        """Up to so many different points that fit, the schedule's own first; the same for the same seed."""
        return list(islice(self._distinct(random.Random(seed), 20 * count), count))  # noqa: S311 - points, not secrets

    def fits(self, decisions: Sequence[Decision]) -> bool:
        """Whether a kernel can run so."""
        pairs = zip(self._nests, decisions, self._reduced, strict=True)
        return all(_problem(d, n.work.loops[n.depth :], r) is None for n, d, r in pairs)

    def _distinct(self, rng: random.Random, tries: int) -> Iterator[tuple[Decision, ...]]:
        known = {self.start: None}
        yield self.start
        for _ in range(tries):
            drawn = self.draw(rng) if rng.random() < 0.5 else self.near(rng.choice(list(known)), rng)
            if drawn not in known and self.fits(drawn):
                known[drawn] = None
                yield drawn

    def _nest(self, place: int, given: Decision, rng: random.Random) -> Decision:
        nest, reduced = self._nests[place], self._reduced[place]
        loops = nest.work.loops[nest.depth :]
        access = Access(nest.work, {})
        width = self._processor.lanes(max(4, *(o.dtype.itemsize for o in nest.work.outs)))
        vector, across = self._vector(loops, reduced, given, rng)
        lanes = rng.choice((width, width, width, max(2, width // 2))) if vector >= 0 or across else 1
        along = extent(loops[vector]) if vector >= 0 else _shortest(reduced) if across else 1
        while lanes > 2 and lanes // 2 >= along:
            lanes //= 2
        most = (self._processor.registers - 4) if access.reduces else 8
        counts = [1] * len(loops)
        for place_ in rng.sample(range(len(loops)), len(loops)):
            own = extent(loops[place_]) // (lanes if place_ == vector else 1)
            room = most // prod(counts)
            if rng.random() < (0.8 if access.reduces or place_ == vector else 0.2):
                counts[place_] = rng.choice([c for c in COUNTS if c <= max(1, min(own, room))])
        order = list(given.order)
        if rng.random() < 0.4:
            rng.shuffle(order)
        threads = self._processor.threads
        parallel, divided = given.parallel, given.divided
        if threads > 1 and rng.random() > 0.7:
            parallel, divided = rng.randint(0, len(loops)), -1
        return Decision(vector, lanes, tuple(counts), tuple(order), parallel, across, divided)

    @staticmethod
    def _vector(loops: Sequence[Iter], reduced: Sequence[Iter], given: Decision, rng: random.Random) -> tuple[int, int]:
        wide = [n for n, i in enumerate(loops) if extent(i) > 1]
        kinds: Mapping[str, float] = {"given": 3.0, "loop": 1.0 if wide else 0.0, "across": 0.5 if reduced else 0.0}
        (kind,) = rng.choices(list(kinds), list(kinds.values()))
        if kind == "loop":
            return rng.choice(wide), 0
        if kind == "across":
            return -1, rng.choice((1, 2, 4, 8))
        return given.vector, given.across
