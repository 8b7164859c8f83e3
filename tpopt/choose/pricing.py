"""Prices of candidates: from measurement records, from measuring now, or from the roofline alone."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.plan import LAYOUT_SUFFIX
from tpopt.backend.profile import LARGE_CONSTANTS, Profiler
from tpopt.choose.candidate import Candidate, Candidates, Price, Refused, in_layout
from tpopt.choose.competitors import competitors
from tpopt.choose.levels import level
from tpopt.choose.modelled import VIEW_US, ModelPrices
from tpopt.errors import TpoptError
from tpopt.ir import Kernel, Opaque, Symbol
from tpopt.ir.index import walk_atoms
from tpopt.ir.walk import map_stage_tensors, stage_reads
from tpopt.rewrite.numerics import Numerics
from tpopt.store.records import Record, Records

CLOSE: Final = 1.25
"""Times the price of the best that a competitor takes which is measured again when another one joins them."""


@dataclass
class Pricer:
    """Prices every admitted candidate; those that fail when tried are moved to the refused.

    ``profiler`` None prices by the model alone. ``measurements`` counts the groups that were timed.
    """

    model: ModelPrices
    records: Records
    binder: Binder
    sizes: Mapping[str, int]
    profiler: Profiler | None
    deadline: float = float("inf")
    prices: dict[str, Price] = field(default_factory=dict)
    measurements: int = 0
    _ran: set[Candidate] = field(default_factory=set)
    _failed: set[Candidate] = field(default_factory=set)

    def run(
        self, found: Candidates, waiting: Container[Candidate] = (), again: Container[str] = ()
    ) -> dict[str, Price]:
        """Prices by key; competitors for one value are measured together, in the order of the original program.

        Those that are ``waiting`` are left for a later run; so are, while there are any, those that need what nobody
        else makes. What an earlier run has priced keeps its price, but for the keys in ``again``: of several
        measurements the least counts, as whatever else a machine does takes time and gives none back.
        """
        if self.profiler is None:
            for candidate in found.admitted:
                self.prices.setdefault(candidate.key, Price(self.model.price(candidate)))
            return self.prices
        self.profiler.rewind()
        left = {c.key for c in found.admitted if c.key in again}
        groups = competitors([c for c in found.admitted if c not in waiting], found.wide)
        for group, done in zip(groups, _last_needs(groups), strict=True):
            self._group(group, found, left, patient=bool(waiting))
            self.profiler.release(done)
        found.admitted = [c for c in found.admitted if c not in self._failed]
        self.records.save()
        return level(found.admitted, self.prices)

    def _group(self, group: Sequence[Candidate], found: Candidates, again: set[str], *, patient: bool) -> None:
        """Measures what is new in a group, and those that are wanted ``again``, once."""
        assert self.profiler is not None
        fresh: dict[str, Call] = {}
        for candidate in group:
            wanted = candidate.key in again
            if candidate in self._ran and not wanted and all(map(self.profiler.has, _made_by(candidate))):
                continue
            call = self._usable(candidate, found, patient=patient)
            if call is not None and (wanted or not self._known(candidate)):
                fresh.setdefault(self.record_key(candidate), call)
        if not fresh:
            return
        if time.perf_counter() >= self.deadline:
            for candidate in group:
                self.prices.setdefault(candidate.key, Price(self.model.price(candidate)))
            return
        calls = {**self._rivals(group, fresh), **fresh}
        self._measure(group, calls)
        for candidate in (c for c in group if self.record_key(c) in calls):
            self.prices.pop(candidate.key, None)
            again.discard(candidate.key)
        for candidate in group:
            self._known(candidate)

    def _rivals(self, group: Sequence[Candidate], fresh: Mapping[str, Call]) -> dict[str, Call]:
        """The best of an earlier run: two timings far apart do not tell which of two is the faster by a little."""
        known = {self.record_key(c): c for c in group if c in self._ran and self._is_measured(c) and self._can_run(c)}
        best = min((self.prices[c.key].us for c in known.values()), default=0.0)
        return {k: self._bound(c) for k, c in known.items() if k not in fresh and self.prices[c.key].us <= CLOSE * best}

    def _measure(self, group: Sequence[Candidate], calls: Mapping[str, Call]) -> None:
        assert self.profiler is not None
        streaming = {self.record_key(c) for c in group if self._streams(c)}
        self.measurements += 1
        for key, (us, low, high, rounds) in self.profiler.measure(calls, self.deadline, streaming).items():
            known = self.records.get(key)
            if known is None or us < known.us:
                self.records.put(key, Record(us, low, high, rounds))

    def _usable(self, candidate: Candidate, found: Candidates, *, patient: bool) -> Call | None:
        """The candidate's call, run once so that what it makes is at hand; ``None`` (and refused) when it fails."""
        assert self.profiler is not None
        try:
            call = self._bound(candidate)
        except TpoptError as error:
            self._refuse(candidate, found, str(error))
            return None
        if not all(map(self.profiler.has, call.refs())):
            if not patient:
                self._refuse(candidate, found, "what it needs could not be computed")
            return None
        reason = self.profiler.run(call, approximate=candidate.numerics is Numerics.APPROXIMATE)
        if reason is not None:
            self._refuse(candidate, found, reason)
            return None
        self._ran.add(candidate)
        return call

    def _bound(self, candidate: Candidate) -> Call:
        return self.binder.bind(planned(candidate), self.sizes)

    def _is_measured(self, candidate: Candidate) -> bool:
        return candidate.key in self.prices and self.prices[candidate.key].measured

    def _can_run(self, candidate: Candidate) -> bool:
        """Whether what it needs is at hand."""
        assert self.profiler is not None
        return all(map(self.profiler.has, self._bound(candidate).refs()))

    def unbuildable(self, candidate: Candidate) -> str | None:
        """Why a candidate's kernel cannot be made ready to run; ``None`` where it can, or needs nothing."""
        try:
            call = self._bound(candidate)
            if call.into is not None:
                call.into.prepare()
        except TpoptError as error:
            return str(error)
        return None

    def _refuse(self, candidate: Candidate, found: Candidates, reason: str) -> None:
        found.refused.append(Refused(candidate.name, candidate.kind, candidate.covers, reason))
        self._failed.add(candidate)

    def _known(self, candidate: Candidate) -> bool:
        """Whether there is a price, taken from the records if need be."""
        if candidate.free:
            self.prices[candidate.key] = Price(VIEW_US)
        recorded = self.recorded(candidate) if candidate.key not in self.prices else None
        if recorded is not None:
            self.prices[candidate.key] = recorded
        return candidate.key in self.prices

    def recorded(self, candidate: Candidate) -> Price | None:
        """The price that the records have; ``None`` where it was never measured."""
        record = self.records.get(self.record_key(candidate))
        return None if record is None else Price(record.us, record.low, record.high, True, self.model.price(candidate))

    def record_key(self, candidate: Candidate) -> str:
        """The candidate's key, with the values of the run-time sizes in it, and what streams its constants."""
        tensors = (*stage_reads(candidate.stage), *candidate.stage.outs)
        atoms = [a for t in tensors for e in t.shape if not isinstance(e, int) for a in walk_atoms(e)]
        names = sorted({a.name for a in atoms if isinstance(a, Symbol)})
        sizes = ",".join(f"{n}={self.sizes.get(n, '?')}" for n in names)
        key = f"{candidate.key} at {sizes}" if sizes else candidate.key
        if self.profiler is None or not self._streams(candidate):
            return key
        return f"{key} after {1 << (self.profiler.between >> 20).bit_length()} MiB"

    def _streams(self, candidate: Candidate) -> bool:
        """Whether constants come from memory at every call of the model: other constants take their place."""
        assert self.profiler is not None
        held = (self.binder.weights.get(t.name) for t in stage_reads(candidate.stage))
        return bool(self.profiler.between) and sum(t.nbytes for t in held if t is not None) >= LARGE_CONSTANTS


@lru_cache(maxsize=4096)
def planned(candidate: Candidate) -> Opaque | Kernel:
    """The candidate's stage with its values under the names of their layouts."""
    layouts = {v.name: v.layout for v in candidate.needs}
    made = {v.name: v.layout for v in candidate.produces}
    outs = set(candidate.stage.outs)
    stage = map_stage_tensors(candidate.stage, lambda t: t if t in outs else in_layout(t, layouts.get(t.name, "")))
    if candidate.kind == "layout":
        name = candidate.produces[0].name
        source = candidate.stage.reads[0]  # type: ignore[union-attr]
        target = {o: in_layout(source, made[name]) for o in stage.outs}
    else:
        target = {o: in_layout(o, made.get(o.name, "")) for o in stage.outs}
    mapped = map_stage_tensors(stage, lambda t: target.get(t, t))
    assert isinstance(mapped, (Opaque, Kernel))
    return mapped


def _made_by(candidate: Candidate) -> list[str]:
    return [o.name for o in planned(candidate).outs]


def _last_needs(groups: Sequence[Sequence[Candidate]]) -> list[list[str]]:
    """For each group, the plan names that no later group reads or makes."""
    last: dict[str, int] = {}
    for number, group in enumerate(groups):
        for candidate in group:
            for value in (*candidate.needs, *candidate.produces):
                last[value.name] = last[f"{value.name}{LAYOUT_SUFFIX}"] = number
    done: list[list[str]] = [[] for _ in groups]
    for name, number in last.items():
        done[number].append(name)
    return done
