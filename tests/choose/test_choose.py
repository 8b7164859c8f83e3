from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.choose import gather as gather_module
from tpopt.choose.careful import FREE, affordable, excess_terms
from tpopt.choose.choose import choose, choose_again, only_originals
from tpopt.choose.cover import Choice
from tpopt.choose.gather import gather
from tpopt.choose.modelled import ModelPrices
from tpopt.choose.pricing import Pricer
from tpopt.errors import KernelBuildFailed
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Program
from tpopt.options import Kernels
from tpopt.rewrite import Trace, registry
from tpopt.store.records import Records

X = torch.randn(1, 8, 96, 96)
"""Large enough for the library kernels to win by the model."""
NET = nn.Sequential(
    OrderedDict(stem=nn.Conv2d(8, 16, 3, padding=1), norm=nn.BatchNorm2d(16), act=nn.ReLU(), head=nn.Conv2d(16, 4, 1))
).eval()


def traced(model: nn.Module = NET, x: torch.Tensor = X) -> tuple[Traced, Program]:
    found = trace(model, (x,))
    return found, registry().parse("default").run(found.algebra, Trace())


def chosen(exclude: tuple[str, ...] = (), tmp: Any = "/dev/null") -> Choice:
    found, cleaned = traced()
    model = ModelPrices(found.algebra, {})
    pricer = Pricer(model, Records(tmp, "here"), Binder({}), {}, None)
    return choose(found.original, [cleaned], gather(found.original, [cleaned], exclude, kernels="library"), pricer)


def kinds(choice: Choice) -> dict[str, str]:
    return {s.stage.outs[0].name.removesuffix(".cl"): s.kind for s in choice.plan.steps if s.kind != "layout"}


def test_a_plan_has_the_signature_of_the_original_and_the_weights_that_it_uses():
    plan = chosen().plan.program
    assert [t.name for t in plan.inputs] == ["input"]
    assert [t.name for t in plan.outputs] == ["conv2d_1"]
    assert kinds(chosen()) == {"relu": "onednn", "conv2d_1": "onednn"}
    folded = [w.name for w in plan.weights if w.name.startswith("_native")]
    assert [w.name for w in plan.weights] == ["head.weight", "head.bias", *folded]


NORM = "_native_batch_norm_legit_no_training.0"
EXCLUDED = [
    (("stem",), {"conv2d": "original"}),
    (("norm",), {NORM: "original"}),
    (("act",), {"relu": "original"}),
    (("head",), {"relu": "onednn", "conv2d_1": "original"}),
    (("st*", "head"), {"conv2d": "original", "conv2d_1": "original"}),
    (("nothing",), {"relu": "onednn", "conv2d_1": "onednn"}),
]


@pytest.mark.parametrize(("exclude", "expected"), EXCLUDED)
def test_operators_of_excluded_modules_stay_as_they_are(exclude: tuple[str, ...], expected: dict[str, str]):
    choice = chosen(exclude)
    found = kinds(choice)
    assert {name: found.get(name) for name in expected} == expected
    refused = {r.reason for r in choice.found.refused}
    assert ("its module is excluded by option" in refused) == ("original" in expected.values())


def test_the_plan_of_originals_runs_every_operator_as_it_was():
    found, cleaned = traced()
    everything = gather(found.original, [cleaned], kernels="library")
    prices = chosen().prices
    plain = only_originals(found.original, everything, prices)
    assert plain is not None
    assert [s.stage for s in plain.plan.steps] == list(found.original.stages)


def test_there_is_no_plan_of_originals_when_one_of_them_failed():
    found, cleaned = traced()
    everything = gather(found.original, [cleaned], kernels="library")
    everything.admitted = [c for c in everything.admitted if c.name != "relu:original"]
    assert only_originals(found.original, everything, chosen().prices) is None


DEEP = nn.Sequential(
    OrderedDict(long=nn.Conv2d(64, 64, 3, padding=1), short=nn.Conv2d(64, 48, 1), head=nn.Conv2d(48, 64, 3, padding=1))
).eval()
WIDE = torch.randn(1, 64, 48, 48)


def test_the_next_cover_spends_no_more_terms_than_its_budget():
    found, cleaned = traced(DEEP, WIDE)
    pricer = Pricer(ModelPrices(found.algebra, {}), Records("/dev/null", "here"), Binder({}), {}, None)
    first = choose(found.original, [cleaned], gather(found.original, [cleaned], kernels="library"), pricer)
    spent = {c.covers[0]: excess_terms(c, {}) for c in first.solution.picked if c.kind == "onednn"}
    assert spent == {"conv2d": 576 - FREE, "conv2d_1": 0, "conv2d_2": 432 - FREE}
    assert affordable(first.solution.picked, {}, 4e-6, 3e-6) == int(708 * (2.7**2 - 1.5**2) / (4**2 - 1.5**2))
    again = choose_again(found.original, [cleaned], first, pricer, error=4e-6, tolerance=3e-6)
    assert again is not None
    assert [s.limit for s in again.spending] == [affordable(first.solution.picked, {}, 4e-6, 3e-6)]
    spent = {c.covers[0]: excess_terms(c, {}) for c in again.solution.picked if c.kind == "onednn"}
    assert spent == {"conv2d_1": 0}


def test_there_is_nothing_to_save_among_originals():
    found, cleaned = traced()
    pricer = Pricer(ModelPrices(found.algebra, {}), Records("/dev/null", "here"), Binder({}), {}, None)
    plain = only_originals(found.original, gather(found.original, [cleaned]), chosen().prices)
    assert plain is not None
    assert choose_again(found.original, [cleaned], plain, pricer, error=4e-6, tolerance=3e-6) is None


def modelled(kernels: Kernels) -> Choice:
    """By the model alone, for small layers, which the model would rather generate."""
    found, cleaned = traced(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.LayerNorm(5)).eval(), torch.randn(3, 6))
    pricer = Pricer(ModelPrices(found.algebra, {}), Records("/dev/null", "here"), Binder(found.weights), {}, None)
    candidates = gather(found.original, [cleaned], kernels=kernels)
    return choose(found.original, [cleaned], candidates, pricer, kernels)


def test_only_generated_kernels_run_when_they_are_asked_for():
    assert set(modelled("generated").plan.count()) == {"generated"}


def test_no_generated_kernel_runs_when_the_library_is_asked_for():
    assert "generated" not in modelled("library").plan.count()


def test_a_kernel_that_cannot_be_built_leaves_its_place_to_another(monkeypatch):
    def fails(self: GeneratedKernel) -> None:
        raise KernelBuildFailed("the compiler is gone")

    monkeypatch.setattr(GeneratedKernel, "prepare", fails)
    for kernels in ("all", "generated"):
        made = modelled(kernels)
        assert "generated" not in made.plan.count()
        assert {r.reason for r in made.found.refused if r.kind == "generated"} == {"the compiler is gone"}


def test_without_a_compiler_nothing_is_generated_and_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(gather_module, "obstacle", lambda: "no kernel can be built: no C compiler")
    made = modelled("all")
    assert "generated" not in made.plan.count()
    assert {r.reason for r in made.found.refused if r.kind == "generated"} == {"no kernel can be built: no C compiler"}


def test_a_generated_kernel_spends_a_block_of_a_long_sum():
    found, cleaned = traced(nn.Linear(4096, 8).eval(), torch.randn(2, 4096))
    (linear,) = [c for c in gather(found.original, [cleaned]).admitted if c.name == "linear:generated"]
    assert excess_terms(linear, {}) == 256 + 4096 // 256 - FREE
