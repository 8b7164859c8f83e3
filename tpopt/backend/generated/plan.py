"""A kernel on paper: stages, the order of their loops, what lies in vectors and in registers, where operands lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tpopt.backend.generated.parts import Products
from tpopt.ir import Compute, Guard, Index, Iter, Read, Scalar, Tensor, index

LONG_SUM: Final = 512
"""Terms from which a sum is added up in blocks: one accumulator over 3,072 loses 2 to 4.5 times what eager loses."""
BLOCK: Final = 256
"""Terms of one block."""


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
    step of each loop in ``steps`` within its tile, the lane. ``shape`` are their extents.
    """

    name: str
    read: Read
    nest: Nest
    tiles: tuple[Iter, ...]
    reduced: tuple[Iter, ...]
    steps: tuple[Iter, ...]
    lane: Iter | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class KernelPlan:
    """A whole kernel. Its arguments are ``reads``, then ``packs``, the constants of ``products``, then ``outs``.

    ``strides`` (elements) of an argument are those of a dense row-major tensor where none are given; those of
    ``channels_last`` are passed with the axes of :data:`~tpopt.backend.generated.physical.LOGICAL`. ``private`` are
    tensors that live in scratch memory alone; ``steps`` are the strides of tensors that nests index otherwise than they
    are passed; ``rows`` are the loops that stages share, of which ``parallel`` run in parallel as one. A kernel with
    ``products`` has no nests: it runs on the matrix unit.
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


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    found: list[int] = []
    step = 1
    for extent in reversed(shape):
        found.append(step)
        step *= extent
    return tuple(reversed(found))
