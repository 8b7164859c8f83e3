"""Compilations within a budget: what is promised holds on the finished program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from support.processor import bf16_products
from support.small import Block, Residual
from torch import nn

import tpopt
from tpopt._compile.metric import Agreement, split_labels
from tpopt.errors import LimitExceeded, UnknownName, UsageError
from tpopt.ir import DType

torch.manual_seed(0)
WIDE = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 10)).eval()
X = torch.randn(64, 256)
CASES = {
    "perceptron": (WIDE, X),
    "convolutions": (Residual().eval(), torch.randn(2, 3, 64, 64)),
    "attention": (Block(64, 4).eval(), torch.randn(1, 48, 64)),
}


class Several(nn.Module):
    """A result that is computed with further, and an operator that is kept whole."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(256, 256), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.up(x))
        scores = self.down(hidden)
        return {"hidden": hidden, "scores": scores, "best": scores.argmax(-1), "sorted": hidden.sort(-1).values}


def error(model: nn.Module, fast: Callable[..., Any], x: torch.Tensor) -> float:
    with torch.no_grad():
        want = model.double()(x.double())
        model.float()
        return float((fast(x).double() - want).norm() / want.norm())


def approximations(fast: tpopt.CompiledModel) -> list[str]:
    """Values of the plan that are stored in bf16, and factors of weights."""
    assert fast.plan is not None
    tensors = fast.plan.program.tensors.values()
    return [t.name for t in tensors if t.dtype is DType.BF16 or ".low_rank" in t.name or ".block_train" in t.name]


@pytest.mark.parametrize("kernels", ["library", "all"])
@pytest.mark.parametrize("name", CASES)
def test_the_error_is_within_the_budget_and_the_layers_really_narrow(name: str, kernels: str, tmp_path: Any):
    model, x = CASES[name]
    options = {"gate": False, "effort": 10, "records": tmp_path / "r", "kernels": kernels}
    fast = tpopt.compile(model, x, budget=tpopt.Budget(max_error=2e-2), **options)
    assert fast.report.verification.passed
    assert error(model, fast, x) <= 2e-2
    if len(fast.report.pareto) > 1 and fast.report.pareto[-1].status == "admitted":
        row = fast.report.pareto[-1]
        assert row.measured_error is not None
        assert row.measured_error <= 2e-2
        assert row.predicted_error <= 2e-2
        assert approximations(fast)
    assert fast.save(tmp_path / "m.tpg") is None
    assert torch.equal(tpopt.load(tmp_path / "m.tpg")(x), fast(x))


def test_without_a_budget_nothing_is_narrow(compiled: Callable[..., tpopt.CompiledModel]):
    fast = compiled(WIDE, X, kernels="library")
    assert not approximations(fast)
    assert not fast.report.pareto
    assert error(WIDE, fast, X) <= 2e-6


@pytest.mark.parametrize("most", [1e-4, 1e-7])
def test_a_budget_below_what_bf16_loses_leaves_the_exact_plan(most: float, compiled: Callable[..., Any]):
    fast = compiled(WIDE, X, choice="measured", kernels="library", budget=f"error<={most}")
    assert error(WIDE, fast, X) <= max(most, 2e-6)
    tried = [r for r in fast.report.pareto if r.note != "exact"]
    assert not [r for r in tried if r.status == "admitted" and (r.measured_error or 1.0) > most]


@bf16_products
def test_a_metric_bounds_the_drop(compiled: Callable[..., Any]):
    seen: list[Callable[..., Any]] = []

    def loss(model: Callable[..., Any], data: Iterable[torch.Tensor]) -> float:
        seen.append(model)
        with torch.no_grad():
            return float(sum((model(x) - WIDE(x)).norm() / WIDE(x).norm() for x in data))

    data = [torch.randn(64, 256) for _ in range(3)]
    budget = tpopt.Budget(max_drop=1e-4, metric=loss, higher_is_better=False)
    fast = compiled(WIDE, X, choice="measured", kernels="library", budget=budget, validation=data)
    assert loss(fast, data) <= 1e-4
    assert seen[0] is WIDE
    assert all(r.drop is not None and r.drop > 1e-4 for r in fast.report.pareto if r.status == "refused")


@bf16_products
def test_the_default_metric_is_agreement_with_the_labels(compiled: Callable[..., Any]):
    labelled = [(torch.randn(64, 256), torch.randint(10, (64,))) for _ in range(2)]
    fast = compiled(
        WIDE, X, choice="measured", kernels="library", budget="drop<=1.0", validation=labelled, calibration=labelled
    )
    assert [r.note for r in fast.report.pareto][:1] == ["exact"]
    assert all(r.drop is not None for r in fast.report.pareto[1:])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"budget": 3}, "budget"),
        ({"budget": "drop<=0.1"}, "validation"),
        ({"budget": "drop<=0.1", "validation": iter([X])}, "iterator"),
        ({"budget": "error<=0.1", "calibration": [torch.randn(3, 256)]}, "calibration"),
    ],
)
def test_what_cannot_be_held_is_refused(arguments: dict[str, Any], named: str, compiled: Callable[..., Any]):
    with pytest.raises(UsageError, match=named):
        compiled(WIDE, X, kernels="library", **arguments)


def test_an_unknown_bound_is_refused():
    with pytest.raises(UnknownName):
        tpopt.compile(WIDE, X, budget="accuracy<=1")


def planted(rank: int) -> nn.Sequential:
    """A perceptron whose wide layer has a rank that is known, but for a little noise."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(256, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 16))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            rows, columns = layer.weight.shape
            low = torch.randn(rows, rank) @ torch.randn(rank, columns) / (rank * columns) ** 0.5
            layer.weight.copy_(low + 1e-5 * torch.randn(rows, columns))
    return model.eval()


def structures(fast: tpopt.CompiledModel) -> set[str]:
    return {k.name.partition(".")[2].partition(".")[0] for k in fast.report.kernels if "low_rank" in k.name}


def test_a_planted_rank_is_found_within_the_budget(compiled: Callable[..., Any]):
    model = planted(16)
    fast = compiled(
        model, torch.randn(512, 256), choice="measured", kernels="library", budget="weights<=0.3x,error<=1e-2"
    )
    x = torch.randn(512, 256)
    assert error(model, fast, x) <= 1e-2
    assert structures(fast)
    row = fast.report.pareto[-1]
    assert row.status == "admitted"
    assert row.weights_bytes is not None
    assert row.weights_bytes <= 0.3 * sum(p.numel() * 4 for p in model.parameters())


@bf16_products
def test_half_of_the_bytes_are_kept_with_the_least_error(compiled: Callable[..., Any]):
    fast = compiled(WIDE, X, choice="measured", kernels="library", budget="weights<=0.51x")
    assert error(WIDE, fast, X) <= 1e-2
    assert fast.report.pareto[-1].weights_bytes <= 0.51 * sum(p.numel() * 4 for p in WIDE.parameters())


@bf16_products
def test_what_is_not_feasible_names_the_nearest_value(compiled: Callable[..., Any]):
    with pytest.raises(LimitExceeded, match=r"weights_bytes=[\d,]+"):
        compiled(WIDE, X, choice="measured", kernels="library", budget="weights<=0.001x,error<=1e-2")
    with pytest.raises(LimitExceeded, match="a call takes"):
        compiled(WIDE, X, choice="measured", kernels="library", gate=True, budget="latency<=0.000001ms")


@bf16_products
def test_under_a_bound_on_time_the_smallest_is_sought(compiled: Callable[..., Any]):
    fast = compiled(WIDE, X, choice="measured", kernels="library", gate=True, budget="latency<=1000ms,error<=2e-2")
    own = [r.weights_bytes for r in fast.report.pareto if r.status == "admitted" and r.weights_bytes is not None]
    assert fast.report.memory.weights_bytes
    assert min(own) <= 0.51 * sum(p.numel() * 4 for p in WIDE.parameters())
    assert error(WIDE, fast, X) <= 2e-2


@bf16_products
def test_batches_of_other_shapes_run_the_original_while_the_metric_is_measured(compiled: Callable[..., Any]):
    seen: list[int] = []

    def loss(model: Callable[..., Any], data: Iterable[torch.Tensor]) -> float:
        seen.append(len(list(data)))
        return float(sum((model(x) - WIDE(x)).norm() / WIDE(x).norm() for x in data))

    data = [torch.randn(64, 256), torch.randn(17, 256)]
    budget = tpopt.Budget(max_drop=1.0, metric=loss, higher_is_better=False, weights_bytes="0.51x")
    fast = compiled(WIDE, X, choice="measured", kernels="library", budget=budget, validation=data)
    assert approximations(fast)
    assert len(seen) == 2  # the original, and the one plan that was tried
    ragged = data[1]
    assert error(WIDE, fast, ragged) <= 2e-6  # a new shape gets an exact plan: nobody measures the metric for it
    assert len(seen) == 2


def test_the_default_metric_is_the_share_of_rows_that_are_right():
    x = torch.eye(4)
    labels = torch.tensor([0, 1, 2, 0])
    assert Agreement(nn.Identity())(nn.Identity(), [(x, labels)]) == 0.75
    assert Agreement(nn.Identity())(lambda t: -t, [x]) == 0.0
    assert split_labels((x, labels))[1] is labels
    assert split_labels((x, x))[1] is None
    with pytest.raises(UsageError, match="holds no data"):
        Agreement(nn.Identity())(nn.Identity(), [])


@pytest.mark.parametrize("budget", ["latency<=1ms", "peak<=1MiB"])
def test_what_the_last_race_measures_needs_it(budget: str, compiled: Callable[..., Any]):
    with pytest.raises(UsageError, match="gate=True"):
        compiled(WIDE, X, kernels="library", budget=budget)


def test_buffers_are_bounded_by_a_share_of_the_originals(compiled: Callable[..., Any]):
    options = {"choice": "measured", "kernels": "library", "gate": True}
    fast = compiled(WIDE, X, budget="peak<=1.01x", **options)
    assert fast.report.result.status == "optimized"
    with pytest.raises(LimitExceeded, match="its buffers take"):
        compiled(WIDE, X, budget="peak<=0.01x", **options)


@bf16_products
@pytest.mark.parametrize("kernels", ["library", "all"])
def test_a_result_that_is_computed_with_further(kernels: str, compiled: Callable[..., Any]):
    model = Several().eval()
    fast = compiled(model, X, choice="measured", kernels=kernels, budget="error<=2e-2,weights<=0.6x", effort=10)
    assert approximations(fast)  # whatever is fast on this machine: in float32 the weights are too large
    with torch.no_grad():
        want, got = model(X), fast(X)
    for name in ("hidden", "scores", "sorted"):
        assert (got[name] - want[name]).norm() <= 2e-2 * want[name].norm()
