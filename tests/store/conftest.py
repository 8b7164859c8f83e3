from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A pipe that somebody reads, alone in its folder."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield path
    os.close(reader)
