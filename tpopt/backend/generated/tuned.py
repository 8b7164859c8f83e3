"""What tuning has found for kernels on this machine: further candidates, which are measured like any other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tpopt.backend.generated.machine import Processor
from tpopt.errors import CorruptFile

LEAST_GAIN: Final = 0.03
"""What a winner must surely gain to be offered: below that, measuring it costs more than it brings."""


def device(processor: Processor) -> str:
    """The descriptor of a device that trials are kept under: processor, threads, registers, versions."""
    from tpopt.store.trials import device_text

    return device_text(
        {
            "processor": processor.model,
            "threads": processor.threads,
            "vector_bytes": processor.vector_bytes,
            "registers": processor.registers,
            "torch": version("torch"),
            "tvm": version("apache-tvm"),
        }
    )


def tuned_decisions(processor: Processor) -> Mapping[str, str]:
    """For each kernel (identity of its request) the decisions that beat its schedule's own here.

    Records that cannot be read count as none.
    """
    from tpopt.store.folder import cache_root

    path = cache_root() / "trials-v1.db"
    try:
        changed = max(p.stat().st_mtime_ns for p in (path, path.with_name(f"{path.name}-wal")) if p.exists())
    except (OSError, ValueError):  # there are none: nothing that takes time to import is needed
        return MappingProxyType({})
    return _read(path, changed, processor)


@lru_cache(maxsize=16)
def _read(path: Path, _changed: int, processor: Processor) -> Mapping[str, str]:
    from tpopt.store.trials import Trials

    try:
        trials = Trials(path)
    except (CorruptFile, OSError):
        return MappingProxyType({})
    found = trials.winners(device(processor), LEAST_GAIN)
    trials.close()
    return MappingProxyType(found)
