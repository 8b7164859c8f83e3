"""Candidates on narrow values, and the cover program that joins them with the others."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from tpopt.choose.accuracy import AccuracyBudget
from tpopt.choose.candidate import Candidate, Candidates, Price
from tpopt.choose.cover import Choice, solved
from tpopt.choose.gather import gather
from tpopt.choose.narrow import CONVERT, rounded
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import DType, Program
from tpopt.passes.precision.storage import Storage
from tpopt.rewrite import Numerics, Trace, registry

NET = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8)).eval()


@pytest.fixture(autouse=True)
def _has_narrow_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is offered is the same on every processor; nothing runs here."""
    monkeypatch.setattr("tpopt.choose.narrow.narrow_products", lambda: True)


def offered() -> tuple[Traced, Program, Candidates, Storage]:
    found = trace(NET, (torch.randn(16, 32),))
    form = registry().parse("default").run(found.algebra, Trace())
    storage = Storage([form], DType.BF16)
    return found, form, gather(found.original, [form], kernels="library", storages=[storage]), storage


def prices(found: Candidates, narrow: float, wide: float = 10.0, convert: float = 1.0) -> dict[str, Price]:
    def one(c: Candidate) -> float:
        if c.kind == CONVERT:
            return convert
        return narrow if c.name.endswith(".bf16") else wide

    return {c.key: Price(one(c)) for c in found.admitted}


def budget(storage: Storage, each: float = 1.0) -> AccuracyBudget:
    return AccuracyBudget([storage], lambda name, _: (each,))


def test_every_library_kernel_has_a_twin_and_every_value_two_conversions():
    _, _, found, _storage = offered()
    kinds = Counter((c.kind, c.name.endswith(".bf16")) for c in found.admitted)
    assert kinds["onednn", False] == kinds["onednn", True] == 5
    pairs = {(c.needs[0].name, c.produces[0].name) for c in found.admitted if c.kind == CONVERT}
    assert ("input", "input.bf16") in pairs
    assert ("input.bf16", "input") not in pairs  # it is there anyway
    assert {("relu", "relu.bf16"), ("relu.bf16", "relu")} <= pairs
    assert all(found.wide[n] == n.removesuffix(".bf16") for pair in pairs for n in pair if n.endswith(".bf16"))
    assert {t.name for t in found.weights} == {f"_{n}.weight.bf16" for n in (0, 2, 4)}
    assert all(t.dtype is DType.BF16 for t in found.weights)


def test_labels_say_what_rounds():
    _, _, found, storage = offered()
    for c in found.admitted:
        assert (c.numerics is Numerics.APPROXIMATE) == bool(rounded(c, storage))


def within(
    limit: float, prices_: dict[str, Price], offer: tuple[Traced, Program, Candidates, Storage]
) -> Choice | None:
    found_, form, found, storage = offer

    def priced(price: float) -> Choice:
        penalties = accuracy.penalties(found.admitted, price)
        return solved(found_.original, [form], found, prices_, approximate=True, penalties=penalties)

    accuracy = budget(storage)
    return accuracy.cheapest(limit, priced, 50.0)


@pytest.mark.parametrize(("limit", "narrow"), [(0.5, 0), (1e9, 3)])
def test_a_budget_decides_between_them(limit: float, narrow: int):
    offer = offered()
    choice = within(limit, prices(offer[2], narrow=1.0), offer)
    assert choice is not None
    picked = [c for c in choice.solution.picked if c.kind == "onednn" and c.name.endswith(".bf16")]
    assert len(picked) == narrow
    assert choice.plan.program.validate()


def test_the_dearest_layer_is_narrow_where_the_budget_has_room_for_one():
    offer = offered()
    found = offer[2]
    cost = prices(found, narrow=9.0)
    cost |= {c.key: Price(1.0) for c in found.admitted if c.name.startswith("tanh:linear") and c.name.endswith("bf16")}
    cost |= {c.key: Price(10.0) for c in found.admitted if c.kind == "original"}
    choice = within(3.1, cost, offer)  # a weight, its input and its result
    assert choice is not None
    names = [c.name for c in choice.solution.picked if c.kind == "onednn" and c.name.endswith(".bf16")]
    assert names == [n for n in names if n.startswith("tanh:linear")]
    assert len(names) == 1


def test_nothing_approximate_is_chosen_without_a_budget():
    found_, form, found, _ = offered()
    choice = solved(found_.original, [form], found, prices(found, narrow=0.001, convert=0.001))
    assert all(c.numerics is not Numerics.APPROXIMATE for c in choice.solution.picked)
    assert all(".bf16" not in t.name for t in choice.plan.program.tensors.values())


def test_errors_add_up_and_what_cannot_be_measured_is_refused():
    _, _, found, storage = offered()
    known = {"_0.weight.bf16": (1.0, 2.0), "relu.bf16": (3.0, 0.5)}
    accuracy = AccuracyBudget([storage], lambda name, _: known.get(name))
    fused = next(c for c in found.admitted if c.name.startswith("relu:linear") and c.name.endswith(".bf16"))
    assert accuracy.of(fused) == (4.0, 2.5)
    assert accuracy.predicted([fused]) == 4.0
    assert accuracy.penalties([fused], 8.0) == {fused.name: 32.0}
    accuracy.measured(found)
    assert fused in found.admitted
    assert not [c for c in found.admitted if "_2.weight.bf16" in rounded(c, storage)]
    assert any("could not be measured" in r.reason for r in found.refused)


def test_an_excluded_module_keeps_its_type():
    found_ = trace(NET, (torch.randn(16, 32),))
    form = registry().parse("default").run(found_.algebra, Trace())
    found = gather(found_.original, [form], ("2",), kernels="library", storages=[Storage([form], DType.BF16)])
    names = {c.name for c in found.admitted if c.kind == "onednn" and c.name.endswith(".bf16")}
    assert any(n.startswith("linear:") for n in names)
    assert not any("linear_1" in n for n in names)


def test_without_bf16_products_no_library_kernel_has_a_twin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tpopt.choose.narrow.narrow_products", lambda: False)
    _, _, found, _ = offered()
    assert not [c for c in found.admitted if c.name.endswith(".bf16") and c.kind == "onednn"]
    assert {r.reason for r in found.refused if r.name.endswith(".bf16")} == {
        "oneDNN has no products of bf16 numbers on this processor"
    }
