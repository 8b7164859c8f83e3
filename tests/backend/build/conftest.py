from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tpopt.backend.build.cache import KernelCache, kernel_digest
from tpopt.backend.build.pool import BuildPool, BuildRequest


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[BuildPool]:
    """Two workers, a limit of 20 seconds and of 256 MiB."""
    cache = KernelCache(tmp_path / "kernels")
    with BuildPool(cache, workers=2, modules=["support.build_entries"], timeout_s=20, memory_bytes=256 << 20) as made:
        yield made


@pytest.fixture
def request_for() -> Callable[..., BuildRequest]:
    def make(payload: str, entry: str = "build") -> BuildRequest:
        return BuildRequest(f"support.build_entries:{entry}", payload.encode(), kernel_digest(entry, payload))

    return make
