from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tpopt
from tpopt._compile import gate
from tpopt.measure import Timings


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., tpopt.CompiledModel]:
    """``tpopt.compile`` with records of its own; by the cost model and without a race unless told otherwise."""

    def run(model: Any, inputs: Any, **options: Any) -> tpopt.CompiledModel:
        options = {"choice": "model", "gate": False, "effort": 20, "records": tmp_path / "r.json"} | options
        return tpopt.compile(model, inputs, **options)

    return run


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, ...]]:
    """What the race will find, for each contestant; every contestant is called once."""
    found: dict[str, tuple[float, ...]] = defaultdict(lambda: (3.0,) * 5)

    def interleave(contestants: Any, **_: Any) -> Timings:
        assert not torch.is_grad_enabled()
        for call in contestants.values():
            call()
        return Timings({name: found[name] for name in contestants})

    monkeypatch.setattr(gate, "interleave", interleave)
    return found
