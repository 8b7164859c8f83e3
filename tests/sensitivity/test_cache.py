"""Sensitivities that are kept: found again bit by bit, and not where anything differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as f

from tpopt.errors import UsageError
from tpopt.sensitivity import cache, hessian, pairs
from tpopt.sensitivity.cache import Curvature, key
from tpopt.sensitivity.objective import Objective


def objective(activation: type[nn.Module] = nn.Tanh, scale: float = 1.0, **changes: torch.Tensor) -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, 3)).double()
    data = {"x": torch.randn(9, 5, dtype=torch.float64), "labels": torch.randint(3, (9,)), **changes}
    batches = [((data["x"],), data["labels"])]
    return Objective.of_module(model, lambda out, t: scale * f.cross_entropy(out, t), batches)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Curvature, list[str]]:
    measured: list[str] = []

    def counting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        return lambda *args: (measured.append(name), function(*args))[1]

    monkeypatch.setattr(hessian, "traces", counting("traces", hessian.traces))
    monkeypatch.setattr(pairs, "changes", counting("changes", pairs.changes))
    return Curvature(tmp_path), measured


def test_what_was_measured_is_found_again(kept):
    curvature, measured = kept
    assert curvature.traces(objective(), 3) == curvature.traces(objective(), 3) == hessian.traces(objective(), 3)
    assert measured == ["traces", "traces"]  # the second one is this test's own
    deltas = {("0.weight", "4"): torch.full((4, 5), 0.1), ("2.bias", "8"): torch.full((3,), 0.3)}
    one, other = (curvature.changes(objective(), deltas) for _ in range(2))
    assert measured[2:] == ["changes"]
    assert one.keys == other.keys == (("0.weight", "4"), ("2.bias", "8"))
    assert np.array_equal(one.first, other.first)
    assert np.array_equal(one.second, other.second)
    curvature.changes(objective(), {**deltas, ("2.bias", "8"): torch.full((3,), 0.4)})
    assert measured[2:] == ["changes", "changes"]


def test_whatever_differs_is_another_entry():
    x, labels = objective().batches[0][0][0], objective().batches[0][1]
    others = [
        key(objective(), "traces", 3, 1),
        key(objective(), "traces", 4, 0),
        key(objective(), "changes", 3, 0),
        key(objective(nn.Sigmoid), "traces", 3, 0),  # same weights, another model
        key(objective(scale=2.0), "traces", 3, 0),  # another loss
        key(objective(x=x + 1e-9), "traces", 3, 0),
        key(objective(labels=(labels + 1) % 3), "traces", 3, 0),
    ]
    assert key(objective(), "traces", 3, 0) == key(objective(), "traces", 3, 0)
    assert len({key(objective(), "traces", 3, 0), *others}) == 8


@pytest.mark.parametrize("text", ["", "{", "[]]", '[["0.weight", 3]]', '[["0.weight", {"mean": 1}]]', "17"])
def test_a_damaged_entry_is_measured_again(kept, text: str):
    curvature, measured = kept
    found = curvature.traces(objective(), 2)
    (file,) = curvature.folder.iterdir()
    file.write_text(text)
    assert curvature.traces(objective(), 2) == found
    assert measured == ["traces", "traces"]
    assert curvature.traces(objective(), 2) == found
    assert len(measured) == 2


def test_the_oldest_entries_go(kept, monkeypatch: pytest.MonkeyPatch):
    curvature, measured = kept
    monkeypatch.setattr(cache, "MOST", 2)
    for seed in (0, 1, 2):
        curvature.traces(objective(), 1, seed)
    assert len(list(curvature.folder.iterdir())) == 2
    curvature.traces(objective(), 1, 2)
    assert len(measured) == 3


def test_a_folder_that_is_not_there_costs_the_cache_alone(tmp_path: Path):
    assert Curvature(tmp_path / "absent").traces(objective(), 2) == hessian.traces(objective(), 2)


def test_a_target_without_a_digest_is_refused():
    with pytest.raises(UsageError, match="cannot keep figures of a dict"):
        key(objective(), {})
