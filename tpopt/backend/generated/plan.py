"""A kernel on paper: stages, the order of their loops, what lies in vectors and in registers, where operands lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tpopt.backend.generated.parts import Products
from tpopt.backend.generated.sizes import extent
from tpopt.ir import Compute, Guard, Index, Iter, Read, Scalar, Tensor, index

LONG_SUM: Final = 512
"""Terms from which a sum is added up in blocks: one accumulator over 3,072 loses 2 to 4.5 times what eager loses."""
BLOCK: Final = 256
"""Terms of one block."""
LINE_BYTES: Final = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class Sweep:
    """How one iterator runs: ``lanes`` neighbours in a vector (1: none), ``count`` such steps side by side."""

    lanes: int = 1
    count: int = 1

    @property
    def span(self) -> int:
        """Points of one tile."""
        return self.lanes * self.count


@dataclass(frozen=True)
class Case:
    """One of the points that a work writes out: results go to ``where``, if ``guard`` holds there."""

    bodies: tuple[Scalar, ...]
    where: tuple[Index, ...]
    guard: Guard | None = None


@dataclass(frozen=True)
class Work:
    """What a nest computes: ``outs[where] = bodies`` for each case, at every point of ``loops``."""

    outs: tuple[Tensor, ...]
    loops: tuple[Iter, ...]
    cases: tuple[Case, ...]

    @staticmethod
    def of(stage: Compute) -> Work:
        """A stage as it is: one case."""
        return Work(stage.outs, stage.loops, (Case(stage.bodies, tuple(map(index, stage.loops))),))

    @property
    def bodies(self) -> tuple[Scalar, ...]:
        """All bodies of all cases."""
        return tuple(b for c in self.cases for b in c.bodies)


@dataclass(frozen=True)
class Nest:
    """How one stage runs.

    ``depth`` leading loops are shared with other stages of the kernel and stand around it. ``order`` are the others,
    outermost first, of which ``parallel`` run in parallel as one; ``sweeps`` names those that run in tiles. Where
    ``divided`` is given, none do: instead each of ``shares`` threads runs all loops, of that one the part that is its
    own. ``across`` names the reduced iterators that lie in vectors where no loop does. ``outside`` of the leading loops
    stand around the blocks of a long sum (0: each tile goes through all of its terms at once). ``cycles`` are those
    that one core is thought to spend on one row.
    """

    work: Work
    depth: int = 0
    order: tuple[Iter, ...] = ()
    sweeps: Mapping[Iter, Sweep] = field(default_factory=dict)
    across: Mapping[Iter, Sweep] = field(default_factory=dict)
    parallel: int = 0
    divided: Iter | None = None
    shares: int = 1
    cycles: float = 0.0
    outside: int = 0

    @property
    def vector(self) -> Iter | None:
        """The loop that lies in vectors."""
        return next((i for i, s in self.sweeps.items() if s.lanes > 1), None)


@dataclass(frozen=True)
class Pack:
    """A constant laid out in the order in which ``nest`` reads it.

    Axes from the outside in: the tile of each loop in ``tiles``, the value of each reduced iterator in ``reduced``, the
    step of each loop in ``steps`` within its tile, the lane. ``shape`` are their extents. While a panel of it is gone
    through, what lies ``ahead`` (elements) is asked for: the panel that comes next (0: nothing is).
    """

    name: str
    read: Read
    nest: Nest
    tiles: tuple[Iter, ...]
    reduced: tuple[Iter, ...]
    steps: tuple[Iter, ...]
    lane: Iter | None
    shape: tuple[int, ...]
    ahead: int = 0

    def starts_line(self, at: Mapping[Iter, int]) -> bool:
        """Whether a step's vector begins a cache line, where the rows of steps do."""
        number = 0
        for iterator in self.steps:
            number = number * self.nest.sweeps[iterator].count + at.get(iterator, 0)
        lanes = 1 if self.lane is None else self.nest.sweeps[self.lane].lanes
        return number * lanes * self.read.dtype.itemsize % LINE_BYTES == 0


@dataclass(frozen=True)
class KernelPlan:
    """A whole kernel. Its arguments are ``reads``, then ``packs``, the constants of ``products``, then ``outs``.

    ``strides`` (elements) of an argument are those of a dense row-major tensor where none are given; those of
    ``channels_last`` are passed with the axes of :data:`~tpopt.backend.generated.physical.LOGICAL`. ``private`` are
    tensors that live in scratch memory alone; ``steps`` are the strides of tensors that nests index otherwise than they
    are passed; ``rows`` are the loops that stages share, of which ``parallel`` run in parallel as one. A kernel with
    ``products`` has no nests: it runs on the matrix unit. The last of the rows runs in steps of ``block``, and stages
    have a loop of their own over the rows of a block; the last block moves back so that it ends where the loop does.
    Around tensors that are ``foreign`` there may be no memory: what is masked off is not even asked for there.
    """

    reads: tuple[Tensor, ...]
    outs: tuple[Tensor, ...]
    nests: tuple[Nest, ...]
    rows: tuple[Iter, ...] = ()
    parallel: int = 0
    private: tuple[Tensor, ...] = ()
    strides: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    packs: tuple[Pack, ...] = ()
    steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    channels_last: frozenset[str] = frozenset()
    products: Products | None = None
    block: int = 1
    foreign: frozenset[str] = frozenset()

    def trips(self, row: Iter) -> int:
        """How often a loop that stages share runs."""
        size = extent(row)
        return -(-(size + self.block - 1) // self.block) if row is self.rows[-1] else size


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    found: list[int] = []
    step = 1
    for size in reversed(shape):
        found.append(step)
        step *= size
    return tuple(reversed(found))
