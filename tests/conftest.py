"""What every test runs under: a cache of its own, reproducible hypothesis, goldens, and resumable long rows."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import settings

pytest_plugins = ["support.golden", "support.resume"]

settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # workers inherit the directory of the process that started them
        return
    cache = tempfile.TemporaryDirectory(prefix="tpopt-tests-")
    config.add_cleanup(cache.cleanup)
    os.environ["XDG_CACHE_HOME"] = cache.name


@pytest.fixture(scope="session", autouse=True)
def _kernels_in_the_shared_cache() -> None:
    """Opens the pool of kernels before some test names a folder of its own: a process opens it once."""
    from tpopt.backend.build.pool import build_pool

    build_pool()
