"""What the matrix unit multiplies: factors as tiles of bf16 parts, and where these lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod
from typing import Final

from tpopt.backend.generated.sizes import extent
from tpopt.ir import Cast, Compute, Const, DType, Index, Iter, Read, Reduce, Scalar, Select, index
from tpopt.ir.interpret.terms import iters_of

TILE: Final = 16
"""Most rows of a tile, and the columns of one."""
TERMS: Final = 32
"""Terms of a sum that one product of tiles adds up."""
PARTS: Final = 3
"""bf16 numbers that hold a float32; one that is bf16 already is its own only part."""
LINE: Final = TERMS
"""bf16 numbers in a row of a tile: one cache line."""
KEPT_BYTES: Final = 3 << 18
"""What every tile of one factor meets of the other should stay in the second cache, beside what streams by."""


@dataclass(frozen=True)
class Side:
    """One factor of the products.

    ``term`` is its value over ``axes`` and the depth; the element that belongs to a point of the loops lies at
    ``places`` along the axes. ``tile`` is the loop whose neighbours make a tile, of ``size`` rows or columns; two tiles
    stand side by side along ``pair``. A ``constant`` one is laid out tile by tile before the kernel runs. The rows of
    a ``left`` one may lie apart, the columns of a right one lie together.
    """

    term: Scalar
    axes: tuple[Iter, ...]
    places: tuple[Index, ...]
    tile: Iter
    pair: Iter | None
    size: int
    constant: bool
    left: bool

    @cached_property
    def parts(self) -> int:
        """bf16 numbers that hold one of its elements."""
        return 1 if is_bf16(self.term) else PARTS

    @property
    def read(self) -> Read:
        """Where a constant factor comes from."""
        read = self.term.value if isinstance(self.term, Cast) else self.term
        assert isinstance(read, Read), "a constant factor is read as it is"
        return read

    @property
    def tiles(self) -> int:
        """Tiles along the tile's loop; the last one may overlap the one before."""
        return ceil(extent(self.tile) / self.size)

    @property
    def steps(self) -> int:
        """Tiles side by side."""
        return 1 if self.pair is None else 2

    def count(self, loop: Iter) -> int:
        """How often a loop runs, given what runs side by side."""
        size = self.tiles if loop is self.tile else extent(loop)
        return ceil(size / 2) if loop is self.pair else size

    def shape(self, depth: Iter, within: tuple[Iter, ...] = ()) -> tuple[int, ...]:
        """Extents of the parts' memory: of a constant factor that of its tiles, else its axes and then the rest.

        A factor that is no constant may be cut for one point of the loops ``within`` at a time. In bf16 numbers for a
        left factor and for constants, in pairs of them for a right one.
        """
        blocks = ceil(extent(depth) / TERMS)
        if self.constant:
            outside = [self.tiles if i is self.tile else extent(i) for i in self.axes]
            return (*outside, blocks, self.parts, self.size if self.left else TILE, LINE)
        sizes = [extent(i) for i in self.axes if i not in within]
        if self.left:
            return (*sizes, _odd(blocks * self.parts) * LINE)
        return (*sizes[:-1], blocks * self.parts * TILE, _odd(ceil(sizes[-1] / TILE)) * TILE)

    def bytes(self, depth: Iter, within: tuple[Iter, ...] = ()) -> int:
        """Bytes of the parts."""
        return prod(self.shape(depth, within)) * (2 if self.left or self.constant else 4)


def is_bf16(term: Scalar) -> bool:
    """Whether every value of a float32 term is a bf16 number: one that was stored so, or zero where a guard says so."""
    match term:
        case Cast():
            return term.value.dtype is DType.BF16
        case Const():
            return term.value == 0
        case Select():
            return is_bf16(term.inside) and is_bf16(term.outside)
        case _:
            return False


def _odd(lines: int) -> int:
    """Lines between rows of a tile: an odd number of them puts every row into another set of the cache."""
    return lines | 1


@dataclass(frozen=True)
class Parts:
    """A constant factor as the kernel takes it: ``uint16`` of ``shape``."""

    name: str
    side: Side
    depth: Iter

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, outermost first."""
        return self.side.shape(self.depth)


@dataclass(frozen=True)
class Products:
    """A stage whose one sum of products runs on the matrix unit.

    ``order`` are its loops, outermost first, of which ``parallel`` run in parallel as one. ``outer`` are the summed
    iterators outside of ``depth``, which runs inside tiles.
    """

    stage: Compute
    total: Reduce
    left: Side
    right: Side
    depth: Iter
    outer: tuple[Iter, ...]
    order: tuple[Iter, ...]
    parallel: int = 0

    @cached_property
    def batch(self) -> tuple[Iter, ...]:
        """Loops that both factors depend on."""
        own = (set(iters_of(s.places)) for s in (self.left, self.right))
        both = set.intersection(*own)
        return tuple(i for i in self.stage.loops if i in both)

    @cached_property
    def within(self) -> tuple[Iter, ...]:
        """Loops at each point of which factors are cut for themselves: the parts are used where they are still near."""
        moving = [s for s in (self.left, self.right) if not s.constant]
        apart = all(i in s.axes and s.places[s.axes.index(i)] is index(i) for s in moving for i in self.batch)
        leading = self.order[: len(self.batch)] == self.batch and 0 < self.parallel <= len(self.batch)
        return self.batch if apart and leading and self.chunk >= self.blocks else ()

    def ordered(self, order: tuple[Iter, ...], parallel: int) -> Products:
        """The same in this order."""
        return replace(self, order=order, parallel=parallel)

    def count(self, loop: Iter) -> int:
        """How often a loop runs."""
        side = next((s for s in (self.left, self.right) if loop in (s.tile, s.pair)), None)
        return extent(loop) if side is None else side.count(loop)

    @property
    def blocks(self) -> int:
        """Blocks of terms, each as long as a tile."""
        return ceil(extent(self.depth) / TERMS)

    @cached_property
    def chunk(self) -> int:
        """Blocks of terms in one pass over all tiles: all of them, where the smaller factor is kept anyway."""
        smaller = min(s.bytes(self.depth) for s in (self.left, self.right)) // prod(map(extent, self.batch))
        return ceil(self.blocks / ceil(smaller / KEPT_BYTES))

    @cached_property
    def constants(self) -> tuple[Parts, ...]:
        """The factors that are constants."""
        sides = (("left", self.left), ("right", self.right))
        return tuple(Parts(f"{name}_parts", side, self.depth) for name, side in sides if side.constant)
