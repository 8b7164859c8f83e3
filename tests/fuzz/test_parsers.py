from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.parsers import Harness


@pytest.mark.parametrize("seed", range(4))
def test_readers_raise_nothing_but_our_errors(seed: int, tmp_path: Path):
    harness = Harness(tmp_path, seed)
    for _ in range(1500):
        harness.one()


@pytest.mark.acceptance
@pytest.mark.parametrize("seed", range(100, 120))
def test_five_million_inputs(seed: int, tmp_path: Path):
    harness = Harness(tmp_path, seed)
    for _ in range(250_000):
        harness.one()
