from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tpopt


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., tpopt.CompiledModel]:
    """``tpopt.compile`` with records of its own; by the cost model and without a race unless told otherwise."""

    def run(model: Any, inputs: Any, **options: Any) -> tpopt.CompiledModel:
        options = {"choice": "model", "gate": False, "effort": 20, "records": tmp_path / "r.json"} | options
        return tpopt.compile(model, inputs, **options)

    return run
