"""The annealer of schedules (``annealer.c``) as :class:`tpopt.protocols.Annealer`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tpopt.backend.native.compiled import compiled
from tpopt.errors import KernelBuildFailed
from tpopt.protocols import MOST_COMPUTATIONS, AnnealerGraph, Moves

SOURCE: Final = Path(__file__).with_name("annealer.c")
FLAGS: Final = ("-O3", "-shared", "-fPIC", "-fvisibility=hidden")
LIBRARIES: Final = ("-lm",)
SLOTS_PER_NODE: Final = 6
"""Room for three computations of every node, in slots of which half stay empty; what is used is far less."""
SPARE_SLOTS: Final = 128


class NativeAnnealer:
    """One annealing process. Calls leave the interpreter free, so that several run beside each other."""

    def __init__(self, graph: AnnealerGraph, *, keep_first: bool, seed: int) -> None:
        """Raises :class:`KernelBuildFailed` where the C file cannot be compiled or memory is short."""
        self._library = _library()
        nodes = len(graph.sizes)
        self._capacity = SLOTS_PER_NODE * nodes + SPARE_SLOTS
        self._arrays = (
            *_rows(graph.predecessors),
            *_rows(graph.successors),
            np.asarray(graph.sizes, dtype=np.int32),
            np.asarray(graph.workspaces, dtype=np.int32),
            np.asarray(graph.durations, dtype=np.float64),
            np.asarray(graph.repeatable, dtype=np.uint8),
        )  # the process points into them
        pointers = (a.ctypes.data_as(ctypes.c_void_p) for a in self._arrays)
        self._process = self._library.tpopt_annealer_new(
            nodes, MOST_COMPUTATIONS, int(keep_first), self._capacity, *pointers, ctypes.c_uint64(seed)
        )
        if not self._process:
            raise KernelBuildFailed(f"there is no memory to anneal a schedule of {nodes} nodes")

    def load(self, sequence: Sequence[int], budget: int) -> None:
        steps = np.asarray(sequence, dtype=np.int32)
        pointer = steps.ctypes.data_as(ctypes.c_void_p)
        valid = self._library.tpopt_annealer_load(self._process, pointer, len(steps), budget)
        if valid != len(steps):
            raise ValueError(
                f"step {valid} of the schedule, node {steps[valid]}, is no node, comes before an operand, or is one "
                f"too many: there is room for {self._capacity // 2} steps, {MOST_COMPUTATIONS} of one node"
            )

    def run(self, moves: Moves) -> int:
        kinds = (ctypes.c_double * len(moves.kinds))(*moves.kinds)
        made: int = self._library.tpopt_annealer_run(
            self._process, moves.count, moves.hot, moves.cold, moves.price, kinds, int(moves.stop_within)
        )
        return made

    def best(self) -> tuple[tuple[int, ...], float, int]:
        steps = np.empty(self._capacity, dtype=np.int32)
        time, excess = ctypes.c_double(), ctypes.c_int64()
        count = self._library.tpopt_annealer_best(
            self._process, steps.ctypes.data_as(ctypes.c_void_p), ctypes.byref(time), ctypes.byref(excess)
        )
        return tuple(steps[:count].tolist()), time.value, excess.value

    def __del__(self) -> None:
        if getattr(self, "_process", None):
            self._library.tpopt_annealer_free(self._process)
            self._process = None


def prepare() -> None:
    """Compiles and loads the C file where that has not been done. Raises :class:`KernelBuildFailed` with the reason."""
    _library()


@cache
def _library() -> ctypes.CDLL:
    path = compiled(SOURCE, FLAGS, LIBRARIES)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelBuildFailed(f"the annealer {path} does not load: {error}") from error
    c = ctypes
    _declare(library, "new", c.c_void_p, [*[c.c_int] * 4, *[c.c_void_p] * 8, c.c_uint64])
    _declare(library, "load", c.c_int, [c.c_void_p, c.c_void_p, c.c_int, c.c_int32])
    _declare(library, "run", c.c_int64, [c.c_void_p, c.c_int64, *[c.c_double] * 3, c.c_void_p, c.c_int])
    _declare(library, "best", c.c_int, [c.c_void_p] * 4)
    _declare(library, "free", None, [c.c_void_p])
    return library


def _declare(library: ctypes.CDLL, name: str, result: Any, arguments: list[Any]) -> None:
    function = getattr(library, f"tpopt_annealer_{name}")
    function.restype, function.argtypes = result, arguments


def _rows(lists: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Compressed rows: where each list starts, and all of them in a row."""
    starts = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum([len(entries) for entries in lists], out=starts[1:])
    return starts, np.asarray([e for entries in lists for e in entries] or [0], dtype=np.int32)
