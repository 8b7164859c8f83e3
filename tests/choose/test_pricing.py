from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from support.kernels import Wrapped
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.backend.profile import Profiler
from tpopt.choose.candidate import Candidates, Price
from tpopt.choose.gather import gather
from tpopt.choose.modelled import ModelPrices
from tpopt.choose.pricing import CLOSE, Pricer
from tpopt.frontend.trace import Traced, trace
from tpopt.rewrite import Trace, registry
from tpopt.store.records import Records

X = torch.randn(1, 6, 9, 9)
CONV = nn.Conv2d(6, 8, 3)


class Counted(Profiler):
    """Prices a call at a microsecond for each letter of its key, and remembers what was asked."""

    def __init__(self, values: Mapping[str, torch.Tensor], binder: Binder, between: int = 0) -> None:
        super().__init__(values, binder, between=between)
        self.asked: list[list[str]] = []
        self.streamed: list[str] = []

    def measure(self, calls: Mapping[str, Any], deadline: float | None = None, streaming: Container[str] = ()) -> Any:
        self.asked.append(list(calls))
        self.streamed += [key for key in calls if key in streaming]
        return {key: (float(len(key)), 1.0, 2.0, 3) for key in calls}


def conv_relu(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(m(x))


class Priced:
    """What a pricer found for a function."""

    def __init__(
        self,
        tmp: Path,
        function: Any = conv_relu,
        *,
        x: torch.Tensor = X,
        dynamic: Any = None,
        spoil: Any = None,
        deadline: float = float("inf"),
    ) -> None:
        self.traced: Traced = trace(Wrapped(function, CONV).eval(), (x,), dynamic_shapes=dynamic)
        cleaned = registry().parse("default").run(self.traced.algebra, Trace())
        self.found: Candidates = gather(self.traced.original, [cleaned], kernels="library")
        if spoil is not None:
            self.found.admitted = [spoil(c) for c in self.found.admitted]
        binder = Binder({**self.traced.weights})
        self.profiler = Counted({self.traced.original.inputs[0].name: x}, binder)
        self.records = Records(tmp / "records.json", "here")
        sizes = {s.name: x.shape[0] for s in self.traced.algebra.symbols}
        model = ModelPrices(self.traced.algebra, sizes)
        self.pricer = Pricer(model, self.records, binder, sizes, self.profiler, deadline)
        self.prices = self.pricer.run(self.found)


def test_competitors_for_one_value_are_measured_together(tmp_path: Path):
    made = Priced(tmp_path)
    outs = {c.key: c.produces[0].name for c in made.found.admitted if c.kind != "layout"}
    groups = [{outs[key] for key in asked if key in outs} for asked in made.profiler.asked]
    assert groups == [set(), {"conv2d"}, {"relu"}]  # the first are the conversions of the input
    assert len(made.profiler.asked[1]) == 5  # torch's, oneDNN's from both layouts, two conversions
    assert all(c.key in made.prices for c in made.found.admitted)


def test_an_input_is_converted_before_somebody_needs_it_in_channels_last(tmp_path: Path):
    made = Priced(tmp_path)
    assert {c.needs[0].layout for c in made.found.admitted if c.kind == "onednn"} == {"", "channels_last"}
    assert [r.reason for r in made.found.refused] == []


def test_what_the_records_know_is_not_measured_again(tmp_path: Path):
    first = Priced(tmp_path)
    again = Priced(tmp_path)
    assert again.profiler.asked == []
    assert again.prices == first.prices


def test_a_price_is_what_was_measured(tmp_path: Path):
    made = Priced(tmp_path)
    relu = next(c for c in made.found.admitted if c.name == "relu:original")
    assert made.prices[relu.key].us == len(relu.key)
    assert made.prices[relu.key].measured


def test_a_view_costs_its_call_and_is_not_measured(tmp_path: Path):
    made = Priced(tmp_path, lambda m, x: x.view(6, 81))
    assert [p.us for p in made.prices.values()] == [1.0] * len(made.prices)
    assert made.profiler.asked == []


def test_sizes_are_part_of_what_a_record_stands_for(tmp_path: Path):
    batch = ({0: torch.export.Dim("b", min=1, max=64)},)
    made = Priced(tmp_path, dynamic=(batch,), x=X.repeat(4, 1, 1, 1))
    (symbol,) = made.traced.algebra.symbols
    key = made.pricer.record_key(next(c for c in made.found.admitted if c.name == "relu:original"))
    assert key.endswith(f" at {symbol.name}={4 * X.shape[0]}")


def test_after_the_deadline_the_model_says_what_records_do_not(tmp_path: Path):
    made = Priced(tmp_path, deadline=0.0)
    assert made.profiler.asked == []
    assert made.prices == {c.key: Price(made.pricer.model.price(c)) for c in made.found.admitted}
    assert all(p.measured and p.predicted is not None for p in Priced(tmp_path / "later").prices.values())


def test_a_candidate_that_fails_is_refused_and_its_equal_keeps_its_price(tmp_path: Path):
    """Two equal operators share a key; the second cannot run because what it needs is missing."""
    made = Priced(tmp_path, lambda m, x: x.sin().relu().cos().relu())
    relus = [c for c in made.found.admitted if c.name in ("relu:original", "relu_1:original")]
    assert relus[0].key == relus[1].key
    pricer = Pricer(
        made.pricer.model, Records(tmp_path / "other.json", "here"), Binder({}), {}, Counted({"args_0": X}, Binder({}))
    )
    found = Candidates([c for c in made.found.admitted if not c.name.startswith("cos")])
    prices = pricer.run(found)
    assert [r.reason for r in found.refused if r.name == "relu_1:original"] == ["what it needs could not be computed"]
    assert relus[0] in found.admitted
    assert relus[0].key in prices


def test_without_a_profiler_the_model_prices_everything(tmp_path: Path):
    made = Priced(tmp_path)
    prices = Pricer(made.pricer.model, made.records, Binder({}), {}, None).run(made.found)
    assert {p.measured for p in prices.values()} == {False}
    assert prices[made.found.admitted[0].key].us == made.pricer.model.price(made.found.admitted[0])


def priced(between: int) -> tuple[Counted, list[str]]:
    model = Wrapped(lambda m, x: m(x), nn.Linear(512, 256)).eval()
    found = trace(model, (torch.randn(4, 512),))
    form = registry().parse("default").run(found.algebra, Trace())
    binder = Binder({n: t.detach() for n, t in found.weights.items()})
    profiler = Counted({found.original.inputs[0].name: torch.randn(4, 512)}, binder, between)
    pricer = Pricer(ModelPrices(form, {}), Records(None, "here"), binder, {}, profiler)
    candidates = gather(found.original, [form], kernels="library")
    pricer.run(candidates)
    return profiler, [pricer.record_key(c) for c in candidates.admitted if c.kind == "onednn"]


def test_large_constants_are_timed_as_in_a_model_whose_others_have_come_between():
    profiler, keys = priced(between=40 << 20)
    assert keys
    assert all(key.endswith(" after 64 MiB") for key in keys)
    assert set(keys) <= set(profiler.streamed)


def test_those_of_a_small_model_are_not():
    profiler, keys = priced(between=1 << 20)
    assert not [key for key in keys if "after" in key]
    assert not profiler.streamed


class Busy(Counted):
    """A machine that takes ``times`` as long now."""

    times = 1.0

    def measure(self, calls: Mapping[str, Any], deadline: float | None = None, streaming: Container[str] = ()) -> Any:
        found = super().measure(calls, deadline, streaming)
        return {k: (us * self.times, low * self.times, high * self.times, n) for k, (us, low, high, n) in found.items()}


class InTwoRuns:
    """oneDNN's kernels for the convolution join when the machine has become ``times`` as slow."""

    def __init__(self, tmp: Path, times: float) -> None:
        made = Priced(tmp)
        self.found = Candidates(list(made.found.admitted))
        self.profiler = Busy({made.traced.original.inputs[0].name: X}, made.pricer.binder)
        records = Records(tmp / "other.json", "here")
        self.pricer = Pricer(made.pricer.model, records, made.pricer.binder, {}, self.profiler)
        late = {c for c in self.found.admitted if c.kind == "onednn" and c.produces[0].name == "conv2d"}
        self.late = {c.key for c in late}
        self.first = dict(self.pricer.run(self.found, late))
        self.profiler.asked, self.profiler.times = [], times
        self.second = dict(self.pricer.run(self.found))


def test_who_joins_later_is_measured_beside_the_best_of_the_others(tmp_path: Path):
    made = InTwoRuns(tmp_path, 1.0)
    assert made.late
    assert not made.late & made.first.keys()
    (asked,) = made.profiler.asked
    group = {c.key for c in made.found.admitted if c.produces[0].name == "conv2d" and c.key in made.first}
    best = min(made.first[k].us for k in group)
    assert set(asked) == made.late | {k for k in group if made.first[k].us <= CLOSE * best}
    assert len(asked) > len(made.late)


def test_of_two_measurements_the_lesser_counts(tmp_path: Path):
    slower, faster = InTwoRuns(tmp_path / "slower", 2.0), InTwoRuns(tmp_path / "faster", 0.5)
    assert {k: p.us for k, p in slower.second.items() if k in slower.first} == {
        k: p.us for k, p in slower.first.items()
    }
    again = {k for asked in faster.profiler.asked for k in asked} - faster.late
    assert again
    assert all(faster.second[k].us == 0.5 * faster.first[k].us for k in again)


def test_what_is_wanted_again_is_measured_once_more_and_nothing_else(tmp_path: Path):
    made = Priced(tmp_path)
    relu = next(c for c in made.found.admitted if c.name == "relu:original")
    made.profiler.asked = []
    made.pricer.run(made.found, again={relu.key})
    (asked,) = made.profiler.asked
    assert relu.key in asked
    rivals = {c.key for c in made.found.admitted if c.produces[0].name == "relu"}
    assert set(asked) <= rivals


def test_what_needs_a_value_that_nobody_makes_yet_waits_with_the_maker(tmp_path: Path):
    made = Priced(tmp_path, lambda m, x: x.sin().relu())
    found = Candidates([c for c in made.found.admitted if c.name in ("sin:original", "relu:original")])
    profiler = Counted({made.traced.original.inputs[0].name: X}, Binder({}))
    pricer = Pricer(made.pricer.model, Records(tmp_path / "other.json", "here"), Binder({}), {}, profiler)
    sine = {c for c in found.admitted if c.name == "sin:original"}
    assert pricer.run(found, sine) == {}
    assert len(found.admitted) == 2
    assert len(pricer.run(found)) == 2
    assert found.refused == []
