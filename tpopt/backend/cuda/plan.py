"""A kernel on a grid of threads, on paper: who computes which points, and who shares a sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tpopt.backend.generated.plan import Nest
from tpopt.ir import Iter, Read, Reduce, Scalar, Tensor


@dataclass(frozen=True)
class Spread:
    """How the points of one stage lie on threads.

    The last loop of ``nest.order`` runs fastest. ``lanes`` neighbouring threads (a power of two; up to a warp, or all
    of a team) share the sums of a point, each taking every so many terms along the iterators in ``along``. One thread
    computes ``grain`` points, a block apart.
    """

    nest: Nest
    lanes: int = 1
    along: frozenset[Iter] = frozenset()
    grain: int = 1


@dataclass(frozen=True)
class BlockProduct:
    """A sum of products as blocks of results: two factors, staged in shared memory a few terms at a time.

    ``total`` is the sum, ``left`` and ``right`` its factors. Of the loops, ``rows`` are the left factor's own,
    ``columns`` the right one's, ``batch`` those of both; ``depth`` are the summed iterators; the last of each runs
    fastest. The factors in ``deep`` lie side by side along it where it is one of ``depth``. A block computes
    ``block_rows`` by ``block_columns`` results, a thread ``tile`` by ``tile`` of them, from ``chunk`` terms at a time.
    """

    nest: Nest
    total: Reduce
    left: Scalar
    right: Scalar
    batch: tuple[Iter, ...]
    rows: tuple[Iter, ...]
    columns: tuple[Iter, ...]
    depth: tuple[Iter, ...]
    deep: frozenset[Scalar]
    block_rows: int
    block_columns: int
    chunk: int
    tile: int

    @property
    def threads(self) -> int:
        """Of one block."""
        return (self.block_rows // self.tile) * (self.block_columns // self.tile)


@dataclass(frozen=True)
class Turn:
    """A stage whose results lie side by side along one loop, and some of what it reads along another.

    Blocks of ``SIDE`` by ``SIDE`` points of both loops take these ``reads`` through shared memory: threads read them
    side by side along ``source``, and write results side by side along ``target``. ``others`` are the loops around.
    """

    nest: Nest
    reads: tuple[Read, ...]
    target: Iter
    source: Iter
    others: tuple[Iter, ...]


SIDE: Final = 32
"""Points of a side of a block that is turned: a warp."""
TURN_THREADS: Final = 256


@dataclass(frozen=True)
class GridPlan:
    """One kernel: ``blocks`` blocks of ``threads`` threads. Its arguments are ``reads``, then ``outs``.

    Either a single stage: ``spreads`` has one, whose points are counted over the whole grid, or it is a ``product`` or
    a ``turn``. Or stages that share ``rows``: ``team`` neighbouring threads go through all stages of a row, and hand to
    each other what is ``private`` in shared memory. ``strides``, ``steps`` and ``channels_last`` are as in
    :class:`~tpopt.backend.generated.plan.KernelPlan`.
    """

    reads: tuple[Tensor, ...]
    outs: tuple[Tensor, ...]
    spreads: tuple[Spread, ...]
    threads: int
    blocks: int
    rows: tuple[Iter, ...] = ()
    team: int = 1
    private: tuple[Tensor, ...] = ()
    product: BlockProduct | None = None
    turn: Turn | None = None
    strides: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    channels_last: frozenset[str] = frozenset()
