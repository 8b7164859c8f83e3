"""The search for offsets (``packer.c``) as :class:`tpopt.protocols.OffsetSearch`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from tpopt.backend.native.compiled import compiled
from tpopt.errors import KernelBuildFailed

SOURCE: Final = Path(__file__).with_name("packer.c")
FLAGS: Final = ("-O3", "-shared", "-fPIC", "-fvisibility=hidden")
FOUND: Final = 1
NONE: Final = 0
LIMIT: Final = -1


def prepare() -> None:
    """Compiles and loads the C file where that has not been done. Raises :class:`KernelBuildFailed` with the reason."""
    _search()


def search_offsets(
    starts: Sequence[int],
    ends: Sequence[int],
    sizes: Sequence[int],
    ranks: Sequence[int],
    capacity: int,
    limit: int,
    *,
    by_rank: bool,
) -> tuple[int, ...] | Literal["none", "limit"]:
    """Places blocks within a capacity; it leaves the interpreter free while it runs.

    Raises :class:`KernelBuildFailed` where the C file cannot be compiled or memory is short.
    """
    times = sorted({*starts, *ends})
    section = {t: k for k, t in enumerate(times)}
    count = len(sizes)
    offsets = np.zeros(count, dtype=np.int64)
    arrays = (
        np.asarray([section[t] for t in starts], dtype=np.int32),
        np.asarray([section[t] for t in ends], dtype=np.int32),
        np.asarray(sizes, dtype=np.int64),
        np.asarray(ranks, dtype=np.int32),
    )
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in arrays]
    found = _search()(
        count, len(times) - 1, *pointers, int(by_rank), capacity, limit, offsets.ctypes.data_as(ctypes.c_void_p)
    )
    if found == FOUND:
        return tuple(offsets.tolist())
    if found not in {NONE, LIMIT}:
        raise KernelBuildFailed(f"there is no memory to search offsets of {count} blocks")
    return "none" if found == NONE else "limit"


@cache
def _search() -> Any:
    path = compiled(SOURCE, FLAGS, ())
    try:
        function = ctypes.CDLL(str(path)).tpopt_packer_search
    except OSError as error:
        raise KernelBuildFailed(f"the packer {path} does not load: {error}") from error
    c = ctypes
    function.restype = c.c_int
    function.argtypes = [c.c_int, c.c_int, *[c.c_void_p] * 4, c.c_int, c.c_int64, c.c_int64, c.c_void_p]
    return function
