"""Prices in rounds: a kernel is built where the cheapest cover is expected to have it.

A model offers more generated kernels than there is time to build. What libraries and the original operators take is
measured first. Then the cover program is solved with measured prices, and with hopeful ones for kernels that nobody has
built: what a cost model expects, times what the quicker ones of those measured took of that. What it picks is built and
measured, until what it hopes for is no better than what is there. Next best covers, without the picks of the first,
keep one of these from being all that is known about a place.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import log2
from typing import Final

import numpy as np

from tpopt.backend.build.pool import build_pool
from tpopt.backend.generated.binding import MATRIX, build_all
from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.candidate import Candidate, Candidates, Price
from tpopt.choose.cover import solved
from tpopt.choose.pricing import Pricer, planned
from tpopt.choose.solve import Solution, Spending
from tpopt.errors import InvalidProgram
from tpopt.ir import Kernel, Program
from tpopt.log import record
from tpopt.rewrite.numerics import Numerics

FIRST_COVERS: Final = 3
"""Covers asked for in the first round, of which little is known."""
COVERS: Final = 2
"""Covers asked for in each round after it."""
HOPE: Final = 0.25
"""Quantile of measured over expected time that kernels which nobody has built are hoped to take."""
NEAREST: Final = 12
"""Measured kernels that it is a quantile of: those of about as many stages, as fusion brings its own errors."""
UNKNOWN: Final = 0.25
"""What is hoped for before :data:`ENOUGH` have been measured: lower quartiles of models were 0.4 to 4, and products
take 0.35 of what is expected where the machine's balance is not known."""
ENOUGH: Final = 6
WORTHWHILE: Final = 0.99
"""A round is begun where the time hoped for is less than this share of the time that is there."""
ON_THE_UNIT: Final = 0.4
"""Expected time of a kernel on the matrix unit as a share of what it takes without (measured 0.3 to 0.6)."""
LONG_SECONDS: Final = 1.0
"""For one cover, after which a round asks for no second: with thousands of candidates it takes as long as building."""
BUILDING_SHARE: Final = 0.67
"""Part of the time for prices after which no building begins."""
LATE: Final = "the effort left no time to build it"


def priced(
    original: Program,
    forms: Sequence[Program],
    found: Candidates,
    pricer: Pricer,
    spending: Sequence[Spending] = (),
    *,
    thorough: bool = False,
) -> dict[str, Price]:
    """Prices by key. What was not built for a plan within the budgets moves to :attr:`Candidates.unbuilt`.

    Without a profiler everything has its price by the model. Where approximate kernels are among the candidates, covers
    with them take turns with exact ones. A budget picks from between the two, and ``thorough`` asks for all kernels:
    then what is left is built as well, the dearest first, as far as there is time.
    """
    found.admitted, found.unbuilt = [*found.admitted, *found.unbuilt], {}
    if pricer.profiler is None or not any(map(is_generated, found.admitted)):
        return pricer.run(found)
    return _Rounds(original, forms, found, pricer, spending).run(thorough=thorough)


class _Rounds:
    def __init__(
        self,
        original: Program,
        forms: Sequence[Program],
        found: Candidates,
        pricer: Pricer,
        spending: Sequence[Spending],
    ) -> None:
        self._original, self._forms, self._found, self._pricer = original, forms, found, pricer
        self._spending = spending
        now = time.perf_counter()
        self._until = now + BUILDING_SHARE * max(pricer.deadline - now, 0.0)
        self._made = dict.fromkeys(filter(is_generated, found.admitted))
        self._waiting = {c: None for c in self._made if c.key not in pricer.prices}
        self._expected = {c.key: self._expectation(c) for c in found.admitted}
        self._recorded = {c.key: p for c in self._waiting if (p := pricer.recorded(c)) is not None}
        self._prices: dict[str, Price] = {}
        self._confirmed: set[str] = set()
        self._measurements_before = pricer.measurements
        self._covers = FIRST_COVERS
        self._freedoms = list(dict.fromkeys(c.numerics is Numerics.APPROXIMATE for c in self._made))

    def run(self, *, thorough: bool) -> dict[str, Price]:
        build_pool().settle()
        recorded = [c for c in self._waiting if c.key in self._recorded]
        if recorded:  # with them at hand this search begins where an earlier one ended, and ends there too
            self._build(recorded)
        else:
            self._measure()
        while self._build_hopeful() or self._confirm():
            pass
        if self._waiting and (thorough or len(self._freedoms) > 1):
            self._build(self._dearest_first(self._waiting))
            self._confirm()
        self._leave_out()
        return self._prices

    def _build_hopeful(self) -> bool:
        """One round; whether there was anything to hope for."""
        wanted = list(dict.fromkeys(c for f in self._freedoms for c in self._wanted(approximate=f)))
        if wanted:
            self._build(wanted)
            self._covers = COVERS
        return bool(wanted)

    def _wanted(self, *, approximate: bool) -> Iterator[Candidate]:
        """Kernels to build that the cheapest covers have, the dearest first: each cover without those before it."""
        taken: set[str] = set()
        start = time.perf_counter()
        there = self._cover({c.key for c in self._waiting}, approximate=approximate)
        for number in range(self._covers if time.perf_counter() < start + LONG_SECONDS else 1):
            if time.perf_counter() >= self._until:
                return
            hoped = self._cover(taken, approximate=approximate)
            picked = [c for c in hoped.picked if c in self._waiting] if hoped is not None else []
            pays = hoped is not None and (there is None or hoped.total_us < WORTHWHILE * there.total_us)
            if not picked or (number == 0 and not pays):
                return
            yield from self._dearest_first(picked)
            taken.update(c.key for c in picked)

    def _confirm(self) -> bool:
        """Measures the best plan and its rivals again, in one go; whether there was anything new among them.

        Kernels that were measured in different rounds saw a different machine. What comes of records alone stays.
        """
        if self._pricer.measurements == self._measurements_before or time.perf_counter() >= self._pricer.deadline:
            return False
        keys = {c.key for f in self._freedoms for c in self._contenders(approximate=f)} - self._confirmed
        self._confirmed |= keys
        if keys:
            self._measure(again=keys)
        return bool(keys)

    def _contenders(self, *, approximate: bool) -> Iterator[Candidate]:
        """What was measured of the best plan, of the best without its generated kernels, and of that without any."""
        made, waiting = ({c.key for c in found} for found in (self._made, self._waiting))
        best = self._cover(waiting, approximate=approximate)
        own = {c.key for c in best.picked} if best is not None else set()
        for plan in (best, *(self._cover(waiting | without, approximate=approximate) for without in (own, made))):
            for candidate in plan.picked if plan is not None else ():
                if candidate.key in self._prices and self._prices[candidate.key].measured:
                    yield candidate

    def _dearest_first(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        return sorted(candidates, key=lambda c: self._expected[c.key], reverse=True)

    def _cover(self, without: set[str], *, approximate: bool) -> Solution | None:
        """The cheapest at hopeful prices without some generated kernels; ``None`` where there is none."""
        hope = cache(self._hope)
        admitted = [c for c in self._found.admitted if not (c in self._made and c.key in without)]
        expected = {c.key: Price(self._expected[c.key] * hope(_stages(c))) for c in admitted}
        prices = expected | self._recorded | self._prices
        left = replace(self._found, admitted=admitted)
        try:
            choice = solved(self._original, self._forms, left, prices, self._spending, approximate=approximate)
        except InvalidProgram:
            return None
        return choice.solution

    def _hope(self, stages: int) -> float:
        """What kernels of so many stages are hoped to take of what is expected."""
        known = {c.key: c for c in self._made if c.key in self._prices}
        near = sorted(known.values(), key=lambda c: abs(log2(_stages(c) / stages)))[:NEAREST]
        ratios = [self._prices[c.key].us / self._expected[c.key] for c in near]
        return float(np.quantile(ratios, HOPE)) if len(ratios) >= ENOUGH else UNKNOWN

    def _build(self, wanted: Sequence[Candidate]) -> None:
        """Builds and measures; what there was no time for goes on waiting."""
        seconds = max(self._until - time.perf_counter(), 0.0)
        assert self._pricer.profiler is not None
        late = build_all(map(planned, wanted), seconds, self._pricer.profiler.strided)
        ready = {c.key for c in wanted if planned(c) not in late}
        self._waiting = {c: None for c in self._waiting if c.key not in ready}
        record("choose", "built", kernels=len(ready), waiting=len(self._waiting), seconds=round(seconds, 1))
        self._measure()

    def _measure(self, again: Container[str] = ()) -> None:
        self._prices = self._pricer.run(self._found, self._waiting, again)
        admitted = set(self._found.admitted)
        self._made = {c: None for c in self._made if c in admitted}

    def _expectation(self, candidate: Candidate) -> float:
        on_it = isinstance(candidate.stage, Kernel) and dict(candidate.stage.parameters).get(MATRIX)
        return self._pricer.model.price(candidate) * (ON_THE_UNIT if on_it else 1.0)

    def _leave_out(self) -> None:
        """Keeps what has a price among the admitted."""
        found, hope = self._found, cache(self._hope)
        late = time.perf_counter() >= self._until
        for candidate in self._waiting:
            us = self._expected[candidate.key] * hope(_stages(candidate))
            found.unbuilt[candidate] = LATE if late else f"at an expected {us:.3g} µs it would make no cheaper plan"
        for candidate in (c for c in found.admitted if c.key not in self._prices and c not in self._waiting):
            found.refuse(candidate.name, candidate.kind, candidate.covers, "what it needs could not be computed")
        found.admitted = [c for c in found.admitted if c.key in self._prices and c not in self._waiting]


def _stages(candidate: Candidate) -> int:
    return max(len(candidate.stage.defines), 1) if isinstance(candidate.stage, Kernel) else 1
