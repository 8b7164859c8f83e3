from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from tpopt.backend.build.cache import KernelCache
from tpopt.backend.build.link import has_linker
from tpopt.backend.build.pool import BuildPool, BuildRequest


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Kernels by name, built by TVM in a worker."""
    if not has_linker():
        pytest.skip("no C compiler on this machine")
    names = ("parallel", "large", "serial", "workspace", "missing")
    cache = KernelCache(tmp_path_factory.mktemp("kernels"))
    with BuildPool(cache, workers=1, modules=["support.tvm_kernels"]) as pool:
        futures = {n: pool.submit(BuildRequest("support.tvm_kernels:build", n.encode(), n)) for n in names}
        return {name: future.result().path for name, future in futures.items()}


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
