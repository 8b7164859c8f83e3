"""``torch.compile(model, backend="tpopt")``, found through its entry point as an installed user finds it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn
from torch.utils import _pytree as pytree

from tpopt.bench.suites import load_suite
from tpopt.report import Report

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, from inside of Dynamo
QUICK: dict[str, Any] = {"choice": "model", "kernels": "library", "gate": False}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def compiled(model: nn.Module, **options: Any) -> Callable[..., Any]:
    return torch.compile(model, backend="tpopt", options={**QUICK, **options})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()


def test_weights_are_constants_and_the_report_is_at_hand():
    model, reports = network(), list[Report]()
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(compiled(model, reports=reports)(x), model(x), atol=1e-5)
    assert [r.result.status for r in reports] == ["optimized"]
    assert "mkl" in {k.kind for k in reports[0].kernels}  # a product whose weight could be packed


def test_sizes_that_change_need_one_more_graph():
    model, reports = network(), list[Report]()
    fast = compiled(model, reports=reports)
    for batch in (2, 3, 5, 7):
        x = torch.randn(batch, 3, 8, 8)
        assert torch.allclose(fast(x), model(x), atol=1e-5)
    assert len(reports) == 2


def test_changed_weights_are_seen():
    model = network()
    fast, x = compiled(model), torch.randn(2, 3, 8, 8)
    before = fast(x)
    model[4].weight.mul_(2)
    assert torch.allclose(fast(x), model(x), atol=1e-5)
    assert not torch.allclose(fast(x), before, atol=1e-5)


class Broken(nn.Module):
    """Breaks the graph, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(3))
        self.inner = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = self.inner(x)
        torch._dynamo.graph_break()
        return y.relu().sum() + self.calls


def test_graph_breaks_and_buffers_that_calls_update():
    model, twin, reports = Broken().eval(), Broken().eval(), list[Report]()
    twin.load_state_dict(model.state_dict())
    fast, x = compiled(model, reports=reports), torch.ones(3)
    for _ in range(3):
        assert torch.allclose(fast(x), twin(x))
    assert (model.calls.tolist(), len(reports)) == ([3.0] * 3, 3)  # the second graph learns that the buffer moves


def test_a_graph_that_is_differentiated_runs_as_it_was(caplog: pytest.LogCaptureFixture):
    model, x = network(), torch.randn(2, 3, 8, 8)
    with torch.enable_grad(), caplog.at_level(logging.WARNING, "tpopt"):
        compiled(model)(x).sum().backward()
    assert model[4].weight.grad is not None
    assert "has to be differentiated" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"efort": 1}, "unknown option 'efort'; did you mean 'effort'"),
        ({"effort": "much"}, "effort='much': expected"),
        ({"reports": 3}, "expected a list, which takes the report"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], says: str):
    with pytest.raises(Exception, match=says):
        torch.compile(network(), backend="tpopt", options=options)(torch.randn(2, 3, 8, 8))


def zoo() -> dict[str, Callable[[], Any]]:
    return {**load_suite("zoo"), **ARCHITECTURES}


@pytest.mark.acceptance
@pytest.mark.parametrize("name", list(zoo()))
def test_every_model_of_the_zoo_and_of_many_kinds(name: str):
    model, inputs, *_ = zoo()[name]()
    expected = pytree.tree_leaves(model(*inputs))
    found = pytree.tree_leaves(compiled(model)(*inputs))
    for got, want in zip(found, expected, strict=True):
        if isinstance(want, torch.Tensor) and want.is_floating_point():
            scale = float(want.norm()) or 1.0
            assert float((got - want).norm()) <= 1e-4 * scale
        else:
            assert torch.equal(torch.as_tensor(got), torch.as_tensor(want))
