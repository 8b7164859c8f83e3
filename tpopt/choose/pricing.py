"""Prices of candidates: from measurement records, from measuring now, or from the roofline alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

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


@dataclass
class Pricer:
    """Prices every admitted candidate; those that fail when tried are moved to the refused.

    ``profiler`` None prices by the model alone.
    """

    model: ModelPrices
    records: Records
    binder: Binder
    sizes: Mapping[str, int]
    profiler: Profiler | None
    deadline: float = float("inf")
    prices: dict[str, Price] = field(default_factory=dict)
    _failed: set[Candidate] = field(default_factory=set)

    def run(self, found: Candidates) -> dict[str, Price]:
        """Prices by key; competitors for one value are measured together, in the order of the original program."""
        if self.profiler is None:
            for candidate in found.admitted:
                self.prices.setdefault(candidate.key, Price(self.model.price(candidate)))
            return self.prices
        groups = competitors(found.admitted, found.wide)
        for group, done in zip(groups, _last_needs(groups), strict=True):
            self._group(group, found)
            self.profiler.release(done)
        found.admitted = [c for c in found.admitted if c not in self._failed]
        self.records.save()
        return level(found.admitted, self.prices)

    def _group(self, group: Sequence[Candidate], found: Candidates) -> None:
        assert self.profiler is not None
        fresh: dict[str, Call] = {}
        for candidate in group:
            call = self._usable(candidate, found)
            if call is not None and not self._known(candidate):
                fresh.setdefault(self.record_key(candidate), call)
        if not fresh:
            return
        if time.perf_counter() >= self.deadline:
            for candidate in group:
                self.prices.setdefault(candidate.key, Price(self.model.price(candidate)))
            return
        streaming = {self.record_key(c) for c in group if self._streams(c)}
        for key, (us, low, high, rounds) in self.profiler.measure(fresh, self.deadline, streaming).items():
            self.records.put(key, Record(us, low, high, rounds))
        for candidate in group:
            self._known(candidate)

    def _usable(self, candidate: Candidate, found: Candidates) -> Call | None:
        """The candidate's call, run once so that what it makes is at hand; ``None`` (and refused) when it fails."""
        assert self.profiler is not None
        try:
            call = self.binder.bind(planned(candidate), self.sizes)
        except TpoptError as error:
            self._refuse(candidate, found, str(error))
            return None
        if not all(self.profiler.has(n) for n in call.refs()):
            self._refuse(candidate, found, "what it needs could not be computed")
            return None
        reason = self.profiler.run(call, approximate=candidate.numerics is Numerics.APPROXIMATE)
        if reason is not None:
            self._refuse(candidate, found, reason)
            return None
        return call

    def unbuildable(self, candidate: Candidate) -> str | None:
        """Why a candidate's kernel cannot be made ready to run; ``None`` where it can, or needs nothing."""
        try:
            call = self.binder.bind(planned(candidate), self.sizes)
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
        record = self.records.get(self.record_key(candidate))
        if record is not None and candidate.key not in self.prices:
            self.prices[candidate.key] = Price(record.us, record.low, record.high, True, self.model.price(candidate))
        return candidate.key in self.prices

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
