"""Planted faults: in passes, in kernels, in their speed. Each has to be found, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from support.planted import plant
from torch import nn

from tpopt._compile.attempt import Attempt
from tpopt._compile.bisect import bisect
from tpopt._compile.build import build as real_build
from tpopt.ir import Apply, Compute, Const, Kernel, Program, Scalar, Stage
from tpopt.options import Options
from tpopt.rewrite import Numerics, Pass, Trace
from tpopt.rewrite import registry as make_registry


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.first, self.second, self.scale = nn.Linear(16, 32), nn.Linear(32, 8), nn.LayerNorm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.second(self.scale(torch.nn.functional.gelu(self.first(y))))


def attempt(**options: Any) -> Attempt:
    chosen = {"choice": "model", "kernels": "library", "verify": False, "gate": False, **options}
    inputs = (torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)),)
    return Attempt(Network().eval(), inputs, {}, None, Options(**chosen), time.perf_counter())


def scaled(body: Scalar) -> Scalar:
    return Apply("mul", (body, Const(1.01, body.dtype)))


def shifted(body: Scalar) -> Scalar:
    return Apply("add", (body, Const(0.5, body.dtype)))


def clamped(body: Scalar) -> Scalar:
    return Apply("min", (body, Const(-5.0, body.dtype)))


def infinite(body: Scalar) -> Scalar:
    return Apply("div", (body, Const(0.0, body.dtype)))


def changed(program: Program, number: int, change: Callable[[Scalar], Scalar]) -> Program:
    """The program with the body of one of its stages changed: the wrong rule."""
    computes = [s for s in program.stages if isinstance(s, Compute) and s.outs[0].dtype.is_float]
    victim = computes[number % len(computes)]
    stages: tuple[Stage, ...] = tuple(
        replace(s, bodies=(change(s.bodies[0]), *s.bodies[1:])) if s is victim else s for s in program.stages
    )
    return program.with_stages(stages)


@dataclass(frozen=True)
class WrongRule(Pass):
    """Breaks one stage."""

    name: ClassVar[str] = "wrong-rule"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    number: int = 0
    how: str = "scaled"

    def run(self, program: Program, trace: Trace) -> Program:
        return changed(program, self.number, globals()[self.how])


def with_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    known = make_registry()
    here = {"wrong-rule": f"{__name__}:WrongRule"}
    extended = replace(known, passes=MappingProxyType({**known.passes, **here}))
    monkeypatch.setattr(
        type(extended), "load_pass", lambda self, name: WrongRule if name == "wrong-rule" else load(self, name)
    )
    for module in ("tpopt._compile.bisect", "tpopt._compile.build"):
        monkeypatch.setattr(f"{module}.registry", lambda: extended)


load = type(make_registry()).load_pass
RULES = [(n, how) for n, how in zip(range(8), ("scaled", "shifted", "clamped", "infinite") * 2, strict=True)]


@pytest.mark.parametrize(("number", "how"), RULES)
@pytest.mark.parametrize(
    "place", ['wrong-rule{{number={n},how="{how}"}},default', 'default,wrong-rule{{number={n},how="{how}"}}']
)
def test_a_wrong_rule_is_named(monkeypatch: pytest.MonkeyPatch, number: int, how: str, place: str):
    with_wrong_rule(monkeypatch)
    found = bisect(attempt(pipeline=place.format(n=number, how=how)))
    assert [(c.kind, c.what, c.name.partition("{")[0]) for c in found] == [("pass", "numbers", "wrong-rule")]


def raising(_: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("out of primitives")


def slowly(value: torch.Tensor) -> torch.Tensor:
    time.sleep(0.002)
    return value


WRONG = {
    "scaled": lambda t: t * 1.01, "shifted": lambda t: t + 0.5, "flipped": lambda t: t.flip(-1),
    "rounded": lambda t: t.half().float() * 1.001, "nan": lambda t: torch.where(t > t.mean(), t, float("nan")),
    "zero": torch.zeros_like,
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_kernel_is_named(monkeypatch: pytest.MonkeyPatch, how: str):
    clean = attempt()
    assert bisect(clean) == []
    plan = clean.built.plan  # type: ignore[union-attr]
    kernels = [s for s in plan.steps if isinstance(s.stage, Kernel) and s.stage.implementation == "mkl.linear"]
    plant(monkeypatch, "mkl.linear", WRONG[how])
    found = bisect(attempt())
    assert [(c.kind, c.what, c.name) for c in found] == [("kernel", "numbers", s.name) for s in kernels]


def test_a_wrong_form_is_named_at_the_kernel_that_computes_it(monkeypatch: pytest.MonkeyPatch):
    spoiled_plan = attempt()
    bisect(spoiled_plan)
    kernels = [s for s in spoiled_plan.built.plan.steps if isinstance(s.stage, Kernel)]  # type: ignore[union-attr]
    victim = kernels[-1]
    wrong = changed(Program("p", (), (), victim.stage.defines, ()), 0, scaled).stages  # type: ignore[union-attr]
    bound = build_with(victim.name, replace(victim.stage, defines=wrong))
    monkeypatch.setattr("tpopt._compile.bisect.build", bound)
    found = bisect(attempt())
    assert [(c.kind, c.what, c.name) for c in found] == [("kernel", "algebra", victim.name)]


def build_with(name: str, stage: Stage) -> Callable[[Attempt], Any]:
    def build(a: Attempt) -> Any:
        made = real_build(a)
        plan = made.plan
        steps = tuple(replace(s, stage=stage) if s.name == name else s for s in plan.steps)
        made.plan = replace(plan, steps=steps)
        return made

    return build


def test_a_kernel_that_raises_is_named(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, "mkl.linear", raising)
    found = bisect(attempt())
    assert {(c.kind, c.what) for c in found} == {("kernel", "error")}
    assert "out of primitives" in str(found[0])


@pytest.mark.serial
def test_a_slow_kernel_is_named(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, "mkl.linear", slowly)
    found = bisect(attempt(), slow=True)
    assert {(c.kind, c.what) for c in found} == {("kernel", "time")}
    assert {c.name.rpartition(":")[2] for c in found} == {"mkl"}
