"""Sums of products in blocks: any two factors of an expression, staged in shared memory as they are multiplied.

A convolution is a product of its window, padding included, with its weight; nothing is unfolded in memory. Source:
Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014; Volkov, Demmel, "Benchmarking GPUs to Tune Dense
Linear Algebra", SC 2008.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import Final

from tpopt.backend.cuda.device import Device
from tpopt.backend.cuda.plan import BlockProduct
from tpopt.backend.generated.access import Access
from tpopt.backend.generated.factors import only_reduction, two_factors
from tpopt.backend.generated.plan import Nest, Work
from tpopt.backend.generated.sizes import extent
from tpopt.ir import DType, Iter, Read, Reduce, Scalar, Select
from tpopt.ir.walk import postorder
from tpopt.rewrite.stages import free_iters

LEAST_SIDE: Final = 16
"""Rows and columns below which most of a block would have nothing to do."""
LEAST_TERMS: Final = 16
LARGE: Final = (128, 128, 8, 8)
MIDDLE: Final = (64, 64, 16, 4)
SMALL: Final = (32, 32, 16, 2)
"""Rows and columns of a block, terms at a time, results a side of one thread."""


def block_product(work: Work, device: Device, strides: Mapping[str, tuple[int, ...]]) -> BlockProduct | None:
    """A work as a product in blocks; ``None`` where it is none, or too small to be worth it."""
    total = _total(work)
    if total is None:
        return None
    access = Access(work, strides)
    factors = two_factors(total, work.loops, access)
    if factors is None:
        return None
    left, right = factors
    of_left, of_right = (frozenset(free_iters(f)) for f in factors)
    rows = _fastest_last([i for i in work.loops if i in of_left and i not in of_right], left, access)
    columns = _fastest_last([i for i in work.loops if i in of_right and i not in of_left], right, access)
    batch = tuple(i for i in work.loops if i in of_left and i in of_right)
    if len(rows) + len(columns) + len(batch) < len(work.loops):
        return None
    depth = _fastest_last(list(total.iters), left, access)
    sizes = [prod(map(extent, loops)) for loops in (rows, columns, depth)]
    if min(sizes[:2]) < LEAST_SIDE or sizes[2] < LEAST_TERMS:
        return None
    points = prod(map(extent, batch))
    for block_rows, block_columns, chunk, tile in (LARGE, MIDDLE, SMALL):
        blocks = points * ceil(sizes[0] / block_rows) * ceil(sizes[1] / block_columns)
        if blocks >= device.multiprocessors or (block_rows, block_columns, chunk, tile) == SMALL:
            nest, deep = Nest(work, 0, work.loops), frozenset(f for f in factors if _beside(f, depth[-1], access))
            shape = (block_rows, block_columns, chunk, tile)
            return BlockProduct(nest, total, left, right, batch, rows, columns, depth, deep, *shape)
    raise AssertionError("the smallest blocks are always taken")


def _total(work: Work) -> Reduce | None:
    """The one sum of a work, if it is of floats, no guard is around it, and there is one case and one result."""
    total = only_reduction(work.bodies)
    if total is None or len(work.outs) != 1 or len(work.cases) != 1:
        return None
    if total.monoid != "sum" or total.dtype not in (DType.F32, DType.F64):
        return None
    guarded = (t for t in postorder(*work.bodies) if isinstance(t, Select))
    return None if any(isinstance(t, Reduce) for s in guarded for t in postorder(s)) else total


def _fastest_last(loops: list[Iter], factor: Scalar, access: Access) -> tuple[Iter, ...]:
    """Loops in their order, but the one along which a factor lies side by side is the last."""
    beside = next((i for i in reversed(loops) if _beside(factor, i, access)), None)
    return (*(i for i in loops if i is not beside), *((beside,) if beside is not None else ()))


def _beside(factor: Scalar, iterator: Iter, access: Access) -> bool:
    """Whether a factor lies side by side in memory along an iterator."""
    return any(access.step(t, iterator) == 1 for t in postorder(factor) if isinstance(t, Read))
