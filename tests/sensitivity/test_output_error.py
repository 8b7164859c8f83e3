"""Measured errors of outputs when one value is replaced."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tpopt.backend.binding import Binder
from tpopt.choose.gather import gather
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Program, Tensor
from tpopt.rewrite import Trace, registry
from tpopt.sensitivity.output_error import OutputErrors

torch.manual_seed(0)
NET = nn.Sequential(
    nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
).eval()
X = torch.randn(2, 3, 8, 8)


def scaled(t: torch.Tensor) -> torch.Tensor:
    return t * 1.01


def errors(*samples: torch.Tensor, deadline: float = float("inf")) -> tuple[OutputErrors, Traced, Program]:
    found = trace(NET, (X,))
    form = registry().parse("default").run(found.algebra, Trace())
    stages = [c.stage for c in gather(found.original, [form], kernels="library").admitted if c.kind == "onednn"]
    weights = {n: t.detach() for n, t in found.weights.items()}
    weights |= {n: torch.from_numpy(form.constants[n]) for w in form.weights if (n := w.name) not in weights}
    named = [{found.original.inputs[0].name: s} for s in samples or (X,)]
    return OutputErrors(found.original, stages, Binder(weights), {}, named, deadline), found, form


def tensor(program: Program, named: Callable[[Tensor], bool]) -> Tensor:
    return next(t for t in program.tensors.values() if named(t))


def relative(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value - exact).norm() ** 2 / exact.norm() ** 2)


def test_a_value_of_the_original_is_replaced_in_the_original():
    measured, found, _ = errors()
    relu = tensor(found.original, lambda t: t.name == "relu")
    with torch.no_grad():
        inner = NET[2](NET[1](NET[0](X)))
        want = relative(NET[4](NET[3](scaled(inner))), NET(X))
    assert measured.of(relu, scaled) == pytest.approx((want,), rel=1e-4)


def test_a_weight_of_the_original_is_replaced_too():
    measured, found, _ = errors()
    weight = tensor(found.original, lambda t: t.name == "_4.weight")
    with torch.no_grad():
        inner = NET[:4](X)
        want = relative(nn.functional.linear(inner, scaled(NET[4].weight), NET[4].bias), NET(X))
    assert measured.of(weight, scaled) == pytest.approx((want,), rel=1e-4)


def test_a_folded_weight_is_reached_through_the_kernel_that_reads_it():
    measured, _, form = errors()
    folded = tensor(form, lambda t: t in form.weights and t.rank == 4)
    assert folded.name not in dict(NET.named_parameters())
    with torch.no_grad():
        scale = NET[1].weight / (NET[1].running_var + NET[1].eps).sqrt()
        shift = NET[1].bias - NET[1].running_mean * scale
        after = nn.functional.conv2d(X, scaled(NET[0].weight * scale[:, None, None, None]), shift)
        want = relative(NET[2:](after), NET(X))
    assert measured.of(folded, scaled) == pytest.approx((want,), rel=1e-3)


def test_it_is_the_mean_over_the_samples():
    other = torch.randn_like(X)
    relu = tensor(errors()[1].original, lambda t: t.name == "relu")
    one, two, both = (errors(*s)[0].of(relu, scaled) for s in ((X,), (other,), (X, other)))
    assert one
    assert two
    assert both
    assert both[0] == pytest.approx((one[0] + two[0]) / 2)


def test_what_does_not_change_moves_nothing_and_nothing_is_left_changed():
    measured, found, _ = errors()
    before = {n: t.clone() for n, t in measured.binder.weights.items()}
    for t in (*found.original.weights, *(o for s in found.original.stages for o in s.outs)):
        assert measured.of(t, lambda v: v.clone()) == (0.0,)
    assert before.keys() == measured.binder.weights.keys()
    assert all(torch.equal(v, measured.binder.weights[n]) for n, v in before.items())


def test_what_nobody_computes_and_what_comes_too_late_is_unknown():
    assert errors()[0].of(Tensor("nobody", (3,), X_TYPE), scaled) is None
    late, found, _ = errors(deadline=time.perf_counter())
    assert late.of(tensor(found.original, lambda t: t.name == "relu"), scaled) is None


def test_what_is_finite_no_longer_is_an_infinite_error():
    measured, found, _ = errors()
    relu = tensor(found.original, lambda t: t.name == "relu")
    assert measured.of(relu, lambda t: t * float("inf")) == (float("inf"),)


X_TYPE = trace(NET, (X,)).original.inputs[0].dtype
