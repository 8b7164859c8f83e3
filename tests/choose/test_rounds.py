"""Which kernels are built: those that the cheapest cover is expected to have, until nothing is left to hope for."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call
from tpopt.backend.profile import Profiler
from tpopt.choose import rounds
from tpopt.choose.candidate import Candidate, Candidates, Price
from tpopt.choose.cover import solved
from tpopt.choose.gather import gather
from tpopt.choose.modelled import ModelPrices
from tpopt.choose.pricing import Pricer, planned
from tpopt.choose.rounds import LATE, priced
from tpopt.frontend.trace import trace
from tpopt.ir import DType, Kernel, Stage
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite import Numerics, Trace, registry
from tpopt.store.records import Records

NET = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 8)).eval()
Microseconds = Callable[[Candidate], float]


class Told(Profiler):
    """Runs nothing and has every value. A call takes ``busy`` times the microseconds that ``us`` has for its key."""

    def __init__(self) -> None:
        super().__init__({}, Binder({}))
        self.us: dict[str, float] = {}
        self.busy = 1.0
        self.asked: list[str] = []

    def has(self, name: str) -> bool:
        return bool(name)

    def run(self, call: Call, *, approximate: bool = False) -> str | None:
        return None

    def measure(self, calls: Mapping[str, Call], deadline: float | None = None, streaming: Container[str] = ()) -> Any:
        self.asked += calls
        now = {key: self.us[key] * self.busy for key in calls}
        return {key: (us, 0.9 * us, 1.1 * us, 7) for key, us in now.items()}


class Model(ModelPrices):
    """What is expected of each candidate."""

    def __init__(self, us: Microseconds) -> None:
        self._expected = us

    def price(self, candidate: Candidate) -> float:
        return self._expected(candidate)


class Search:
    """The rounds of one small model, with nothing built and nothing run."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, expected: Microseconds, takes: Microseconds, *, narrow: bool = False
    ) -> None:
        found = trace(NET, (torch.randn(16, 32),))
        form = registry().parse("default").run(found.algebra, Trace())
        storages = [Storage([form], DType.BF16)] if narrow else []
        self.original, self.forms = found.original, [form]
        self.found: Candidates = gather(found.original, [form], storages=storages)
        self.everything = list(self.found.admitted)
        self.profiler = Told()
        binder = Binder({n: t.detach() for n, t in found.weights.items()})
        self.pricer = Pricer(Model(expected), Records(os.devnull, "here"), binder, {}, self.profiler, float("inf"))
        self.profiler.us = {self.pricer.record_key(c): takes(c) for c in self.everything}
        self.rounds: list[list[Stage]] = []
        monkeypatch.setattr(self.pricer, "_bound", lambda c: Call("none", print, (), (), (), single=True))
        monkeypatch.setattr(rounds, "build_all", self._build)
        monkeypatch.setattr(rounds, "build_pool", lambda: self)

    def settle(self) -> None:
        """There are no workers."""

    def _build(self, stages: Iterable[Stage], timeout_s: float, values: Any) -> frozenset[Stage]:
        self.rounds.append(list(stages))
        return frozenset()

    def run(self, found: Candidates | None = None, **options: Any) -> dict[str, Price]:
        return priced(self.original, self.forms, found or self.found, self.pricer, **options)

    def built(self) -> list[Candidate]:
        stages = [s for built in self.rounds for s in built]
        return sorted((c for c in self.everything if planned(c) in stages), key=lambda c: stages.index(planned(c)))


def generated(candidate: Candidate) -> bool:
    return rounds.is_generated(candidate)


def stages_of(candidate: Candidate) -> int:
    return len(candidate.stage.defines) if isinstance(candidate.stage, Kernel) else 0


def cheap(candidate: Candidate) -> float:
    return 10.0 + len(candidate.name) / 10 if generated(candidate) else 100.0


def test_what_the_cheapest_covers_are_expected_to_have_is_built_and_measured(monkeypatch: pytest.MonkeyPatch):
    search = Search(monkeypatch, cheap, cheap)
    prices = search.run()
    assert 0 < len(search.built()) < len(list(filter(generated, search.everything)))
    assert all(prices[c.key].measured for c in search.built())
    chosen = solved(search.original, search.forms, search.found, prices).solution
    assert any(map(generated, chosen.picked))


def test_nothing_is_built_that_could_not_make_a_cheaper_plan(monkeypatch: pytest.MonkeyPatch):
    search = Search(monkeypatch, lambda c: 1000.0 if generated(c) else 1.0, lambda _: 1.0)
    search.run()
    assert search.rounds == []
    assert not any(map(generated, search.found.admitted))
    reasons = {r for c, r in search.found.unbuilt.items()}
    assert reasons == {f"at an expected {1000 * rounds.UNKNOWN:.3g} µs it would make no cheaper plan"}


def test_a_kernel_that_turns_out_slow_makes_way_for_the_next(monkeypatch: pytest.MonkeyPatch):
    first = Search(monkeypatch, cheap, cheap)
    first.run()
    once = len(first.rounds)
    slow = {c.name for c in first.built()}
    search = Search(monkeypatch, cheap, lambda c: 1000.0 if c.name in slow else cheap(c))
    search.run()
    assert len(search.rounds) > once
    assert len(search.built()) > len(first.built())


def test_hope_falls_with_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    """Where kernels take a hundred times what is expected, there is nothing to hope for of the others."""
    monkeypatch.setattr(rounds, "ENOUGH", 1)
    search = Search(monkeypatch, cheap, lambda c: 100.0 * cheap(c) if generated(c) else 100.0)
    search.run()
    assert len(search.rounds) == 1
    expected = {f"at an expected {100 * cheap(c):.3g} µs it would make no cheaper plan" for c in search.found.unbuilt}
    assert set(search.found.unbuilt.values()) == expected


def test_without_time_nothing_is_built_and_the_reason_says_so(monkeypatch: pytest.MonkeyPatch):
    search = Search(monkeypatch, cheap, cheap)
    search.pricer.deadline = 0.0
    search.run()
    assert search.built() == []
    assert set(search.found.unbuilt.values()) == {LATE}


def test_a_later_choice_among_fewer_builds_what_the_first_left(monkeypatch: pytest.MonkeyPatch):
    search = Search(monkeypatch, cheap, cheap)
    search.run()
    before, asked = search.built(), len(search.profiler.asked)
    assert search.run() == search.run()
    assert len(search.profiler.asked) == asked  # what is known is not measured again
    left = search.found.without({*before}, "wrong")
    assert not set(before).intersection((*left.admitted, *left.unbuilt))
    search.run(left)
    assert len(search.built()) > len(before)


def test_a_minute_in_which_the_machine_was_busy_does_not_decide(monkeypatch: pytest.MonkeyPatch):
    """Libraries are measured while everything takes three times as long, and kernels that were built later are not."""
    whole = max(map(stages_of, Search(monkeypatch, cheap, cheap).everything))
    search = Search(
        monkeypatch,
        lambda c: cheap(c) if stages_of(c) == whole else 1000.0,  # one kernel for all of the model is worth a try
        lambda c: 300.0 if generated(c) else 50.0,
    )
    search.profiler.busy = 3.0
    build = search._build

    def builds(stages: Iterable[Stage], timeout_s: float, values: Any) -> frozenset[Stage]:
        search.profiler.busy = 1.0
        return build(stages, timeout_s, values)

    monkeypatch.setattr(rounds, "build_all", builds)
    prices = search.run()
    assert search.built()
    chosen = solved(search.original, search.forms, search.found, prices).solution
    assert not any(map(generated, chosen.picked))
    assert {prices[c.key].us for c in chosen.picked} == {50.0}


def test_when_all_kernels_are_asked_for_the_dearest_is_built_first(monkeypatch: pytest.MonkeyPatch):
    search = Search(monkeypatch, lambda c: 500.0 + len(c.name) if generated(c) else 1.0, lambda _: 1.0)
    search.run(thorough=True)
    assert not search.found.unbuilt
    (built,) = search.rounds
    assert len(built) == len(list(filter(generated, search.everything)))
    assert [len(c.name) for c in search.built()] == sorted((len(c.name) for c in search.built()), reverse=True)


def test_approximate_covers_take_turns_with_exact_ones_and_what_is_left_is_built_too(monkeypatch: pytest.MonkeyPatch):
    search = Search(monkeypatch, cheap, cheap, narrow=True)
    search.run()
    labels = {c.numerics is Numerics.APPROXIMATE for c in search.everything if planned(c) in search.rounds[0]}
    assert labels == {True, False}
    assert not search.found.unbuilt


def test_with_the_records_of_an_earlier_search_another_ends_where_it_did(monkeypatch: pytest.MonkeyPatch):
    first = Search(monkeypatch, cheap, lambda c: 1000.0 if generated(c) else 100.0)
    prices = first.run()
    assert first.built()
    again = Search(monkeypatch, cheap, lambda c: 1000.0 if generated(c) else 100.0)
    again.pricer.records = first.pricer.records
    assert again.run() == prices
    assert again.profiler.asked == []
    assert {c.name: why for c, why in again.found.unbuilt.items()} == {
        c.name: y for c, y in first.found.unbuilt.items()
    }
