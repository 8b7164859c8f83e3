"""Long sums in blocks of terms, each of which passes over all tiles before the next one begins.

A tile of a matrix product reads a panel of either factor. The panel that does not change from tile to tile stays in the
first cache where only a block of its terms is gone through at a time; partial sums wait in memory meanwhile. What is
added to what is the same as tile by tile.

Source: Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 2008.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from tpopt.backend.generated.access import Access, depends_on
from tpopt.backend.generated.plan import BLOCK, LONG_SUM, Nest, Pack, Sweep
from tpopt.backend.generated.sizes import extent
from tpopt.ir import Iter, Reduce, Select
from tpopt.ir.dtypes import DType
from tpopt.ir.interpret.terms import iters_of, shared
from tpopt.ir.walk import own_indices, postorder

LEAST_TILES: Final = 4
"""Tiles that share a panel, so that coming back for it pays."""
RESIDENT: Final = 12 << 10
"""Bytes of a panel that stay in the first cache anyway."""
MOST_SUMS: Final = 1 << 20
"""Bytes of partial sums that wait."""
STREAMED: Final = 1 << 19
"""Bytes of a constant that stay in the second cache from one call to the next."""
LEAST_BLOCK: Final = 64
"""Terms of a block, so that loading and storing the sums costs little."""


def split_sum(reduce: Reduce, longest: int = LONG_SUM) -> tuple[list[tuple[Iter, int]], list[tuple[Iter, int]]]:
    """The loops over blocks of a sum and those within one, each with the terms of one step and of one block.

    No loops over blocks where the sum has ``longest`` terms at most.
    """
    sizes = [(i, extent(i)) for i in reduce.iters]
    whole = [(i, 1) for i, _ in sizes]
    if prod(n for _, n in sizes) <= longest:
        return [], whole
    inside, cut = 1, len(sizes)
    while inside * sizes[cut - 1][1] <= BLOCK:
        cut -= 1
        inside *= sizes[cut][1]
    iterator, size = sizes[cut - 1]
    each = BLOCK // inside
    if each < 2:
        return whole[:cut], whole[cut:]
    each = -(-size // -(-size // each))  # blocks as even as they can be
    return [*whole[: cut - 1], (iterator, each)], [(iterator, each), *whole[cut:]]


def tiles(iterator: Iter, sweeps: Mapping[Iter, Sweep]) -> int:
    """Tiles along a loop."""
    return -(-extent(iterator) // sweeps.get(iterator, Sweep()).span)


def the_sum(nest: Nest) -> Reduce | None:
    """The one sum of a nest that may run in blocks: of float32 numbers, under no condition."""
    terms = postorder(*nest.work.bodies)
    found = {shared(t) for t in terms if isinstance(t, Reduce)}
    if len(found) != 1 or len(nest.work.cases) != 1 or nest.work.cases[0].guard is not None:
        return None
    (total,) = found
    inside = set(postorder(*total.bodies))
    if any(isinstance(t, Select) and t not in inside for t in terms) or any(isinstance(t, Reduce) for t in inside):
        return None
    plain = total.monoid == "sum" and total.bodies[0].dtype is DType.F32
    return total if plain else None


def loops_around_blocks(nest: Nest) -> int:
    """How many leading loops stand around the blocks of a nest's sum; 0 where it runs tile by tile."""
    total = the_sum(nest)
    if total is None or nest.depth or nest.vector is None:
        return 0
    blocks, within = split_sum(total, BLOCK)
    size = prod(each for _, each in within[:1]) * prod(extent(i) for i, _ in within[1:])
    if not blocks or size < LEAST_BLOCK:
        return 0
    access = Access(nest.work, {})
    reads = [r for r in access.reads if access.is_summed(r)]
    moving = {i for t in postorder(*total.bodies) for i in iters_of(own_indices(t))}
    if nest.vector not in moving or not reads or nest.order[0] not in moving:
        return 0
    panel = next((r for r in reads if nest.order[0] in depends_on(r)), reads[0])
    outside = next((n for n, i in enumerate(nest.order) if i not in depends_on(panel)), len(nest.order))
    inner = nest.order[outside:]
    span = prod(s.span for i, s in nest.sweeps.items() if i in depends_on(panel))
    held = 4 * span * prod(extent(i) for i in total.iters if i in depends_on(panel))
    waiting = 4 * prod(tiles(i, nest.sweeps) for i in inner) * prod(s.span for s in nest.sweeps.values())
    enough = prod(tiles(i, nest.sweeps) for i in inner) >= LEAST_TILES
    fits = enough and held > RESIDENT and waiting <= MOST_SUMS and nest.parallel <= outside
    return outside if fits else 0


def panel_ahead(pack: Pack) -> int:
    """Elements from a place in a packed constant to the same place of the panel that comes next; 0 where it is near.

    A panel that several tiles share is fetched by the first of them alone, which waits for memory meanwhile; asked for
    a panel ahead, it is there. Where each tile reads on, the machine does that by itself.
    """
    nest = pack.nest
    last = max((n for n, i in enumerate(nest.order) if i in pack.tiles), default=-1)
    again = prod(tiles(i, nest.sweeps) for i in nest.order[last + 1 :])
    if pack.lane is None or again < 2 or prod(pack.shape) * pack.read.dtype.itemsize <= STREAMED:
        return 0
    total = the_sum(nest) if nest.outside else None
    panel = prod(pack.shape[len(pack.tiles) :])
    if total is None:
        return panel
    _, within = split_sum(total, BLOCK)
    block = prod(each if n == 0 else extent(i) for n, (i, each) in enumerate(within) if i in pack.reduced)
    return panel // prod(map(extent, pack.reduced)) * block
