"""Sums of products in blocks: any two factors of an expression, staged in shared memory as they are multiplied.

A convolution is a product of its window, padding included, with its weight; nothing is unfolded in memory. Source:
Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014; Volkov, Demmel, "Benchmarking GPUs to Tune Dense
Linear Algebra", SC 2008.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Final

from tpopt.backend.cuda.device import Device
from tpopt.backend.cuda.plan import BlockProduct
from tpopt.backend.generated.access import Access
from tpopt.backend.generated.plan import Nest, Work
from tpopt.backend.generated.sizes import extent
from tpopt.ir import Apply, Iter, Read, Reduce, Scalar, Select
from tpopt.ir.interpret.terms import iters_of, shared
from tpopt.ir.walk import own_indices, postorder

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
    factors = _factors(total, work, access)
    if factors is None:
        return None
    left, right = factors
    of_left, of_right = _free(left), _free(right)
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
    """The one sum of a work, if it is of float32 numbers and there is one case and one result."""
    found = list(dict.fromkeys(shared(t) for t in postorder(*work.bodies) if isinstance(t, Reduce)))
    if len(found) != 1 or len(work.outs) != 1 or len(work.cases) != 1:
        return None
    (total,) = found
    if total.monoid != "sum" or len(total.bodies) != 1 or total.bodies[0].dtype.value not in ("f32", "f64"):
        return None
    guarded = (t for t in postorder(*work.bodies) if isinstance(t, Select))
    if any(isinstance(t, Reduce) for s in (*total.bodies, *guarded) for t in postorder(s)):
        return None
    return total


def _factors(total: Reduce, work: Work, access: Access) -> tuple[Scalar, Scalar] | None:
    """Two factors of the terms: the right one has the loop along which results lie side by side, if any has."""
    pending, terms = [total.bodies[0]], list[Scalar]()
    while pending:
        term = pending.pop()
        if isinstance(term, Apply) and term.function == "mul":
            pending += term.args
        else:
            terms.append(term)
    last = next((i for i in work.loops if access.out_step(i) == 1), None)
    loops = set(work.loops)
    right = [t for t in terms if last is not None and last in _free(t)]
    left = [t for t in terms if t not in right]
    if not left or not right:
        return None
    own = [set().union(*(_free(t) & loops for t in side)) for side in (left, right)]
    if not own[0] - own[1] or not own[1] - own[0]:
        return None
    return _product(left), _product(right)


def _product(factors: Sequence[Scalar]) -> Scalar:
    made = factors[0]
    for factor in factors[1:]:
        made = Apply("mul", (made, factor))
    return made


def _free(term: Scalar) -> frozenset[Iter]:
    return frozenset(i for t in postorder(term) for i in iters_of(own_indices(t)))


def _fastest_last(loops: list[Iter], factor: Scalar, access: Access) -> tuple[Iter, ...]:
    """Loops in their order, but the one along which a factor lies side by side is the last."""
    beside = next((i for i in reversed(loops) if _beside(factor, i, access)), None)
    return (*(i for i in loops if i is not beside), *((beside,) if beside is not None else ()))


def _beside(factor: Scalar, iterator: Iter, access: Access) -> bool:
    """Whether a factor lies side by side in memory along an iterator."""
    return any(access.step(t, iterator) == 1 for t in postorder(factor) if isinstance(t, Read))
