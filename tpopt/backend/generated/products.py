"""Sums of products on the matrix unit (Intel AMX): float32 operands as three bf16 parts, six products of parts.

A float32 has 24 significant bits, a bf16 eight: ``x = x0 + x1 + x2`` holds exactly, each part being what remains of the
others cut off after eight bits. Of the nine products of parts the six largest are kept; the other three are below half
an ulp of float32. The unit multiplies tiles of 16 rows by 32 terms with tiles of 32 terms by 16 columns into sums of
float32. A sum of products at float32's accuracy so costs six passes of a unit that is sixteen times as fast.

Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", ARITH 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Final

from tpopt.backend.generated.access import Access
from tpopt.backend.generated.factors import only_reduction, two_factors
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.parts import TILE, Products, Side, is_bf16
from tpopt.backend.generated.plan import Work
from tpopt.backend.generated.sizes import extent
from tpopt.errors import KernelUnsupported
from tpopt.ir import Cast, Compute, Index, Iter, Lookup, Read, Reduce, Scalar, index
from tpopt.ir.bounds import interval
from tpopt.ir.dtypes import DType
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.walk import own_indices, postorder, substitute_iters
from tpopt.rewrite.stages import free_iters

MOST_SCRATCH: Final = 64 << 20
"""Bytes of one factor's parts, where they are made anew with each call."""
LEAST_ROWS: Final = 4
LEAST_PRODUCTS: Final = 1 << 18
"""Products of two numbers below which the unit is not worth setting up."""
TILES_PER_THREAD: Final = 4


def on_matrix_unit(
    stage: Compute, constants: frozenset[str], processor: Processor, strides: Mapping[str, tuple[int, ...]]
) -> Products:
    """How a stage runs on the matrix unit. Raises :class:`KernelUnsupported` with what it lacks for that."""
    if not processor.matrix:
        raise KernelUnsupported("this processor has no matrix unit")
    total = _total(stage)
    access = Access(Work.of(stage), strides)
    factors = two_factors(total, stage.loops, access)
    if factors is None:
        raise KernelUnsupported("not a sum of products of two factors")
    left, right = factors
    rows, columns = (_own(stage, a, b) for a, b in ((left, right), (right, left)))
    if not rows or not columns or any(i not in _free(left) | _free(right) for i in stage.loops):
        raise KernelUnsupported("no loops of its own for each of two factors")
    depth = _depth(total, left, right, access)
    if prod(map(extent, (*stage.loops, *total.iters))) < LEAST_PRODUCTS:
        raise KernelUnsupported("too few products for the matrix unit")
    last = next(i for i in columns if access.out_step(i) == 1)
    first = max(rows, key=lambda i: (min(extent(i), TILE), rows.index(i)))
    if extent(first) < LEAST_ROWS or extent(last) < TILE:
        raise KernelUnsupported("too few rows or columns for a tile")
    sides = (
        _side(left, first, rows, depth, constants, height=_height(extent(first)), left=True),
        _side(right, last, columns, depth, constants, height=TILE, left=False),
    )
    for side in sides:
        if not side.constant and side.bytes(depth) > MOST_SCRATCH:
            raise KernelUnsupported("the parts of a factor take too much memory")
    # what has more bytes streams by once, and the other one stays in the second cache
    batch = [i for i in stage.loops if i not in rows and i not in columns]
    outer, inner = (columns, rows) if sides[1].bytes(depth) > sides[0].bytes(depth) else (rows, columns)
    made = Products(stage, total, sides[0], sides[1], depth, tuple(i for i in total.iters if i is not depth), ())
    order = (*batch, *outer, *inner)
    return made.ordered(order, _parallel([made.count(i) for i in order], processor))


def _total(stage: Compute) -> Reduce:
    """The one sum of a stage."""
    total = only_reduction(stage.bodies)
    if total is None or len(stage.outs) != 1:
        raise KernelUnsupported("not one sum with one result")
    if total.monoid != "sum" or total.bodies[0].dtype is not DType.F32:
        raise KernelUnsupported("not a sum of float32 numbers")
    return total


def _free(term: Scalar) -> frozenset[Iter]:
    return frozenset(free_iters(term))


def _own(stage: Compute, factor: Scalar, other: Scalar) -> tuple[Iter, ...]:
    return tuple(i for i in stage.loops if i in _free(factor) and i not in _free(other))


def _depth(total: Reduce, left: Scalar, right: Scalar, access: Access) -> Iter:
    """The summed iterator that runs inside tiles: one along which the left factor lies side by side, if any does."""
    both = [i for i in total.iters if i in _free(left) and i in _free(right) and extent(i) >= TILE]
    if not both:
        raise KernelUnsupported("no sum of 16 terms or more over both factors")
    reads = [t for t in postorder(left) if isinstance(t, Read)]
    return max(both, key=lambda i: (all(access.step(r, i, TILE) in (0, 1) for r in reads), extent(i)))


def _height(size: int) -> int:
    """Rows of a tile: as even as they can be."""
    return ceil(size / ceil(size / TILE))


def _side(
    term: Scalar,
    tile: Iter,
    own: Sequence[Iter],
    depth: Iter,
    constants: frozenset[str],
    *,
    height: int,
    left: bool,
) -> Side:
    """One factor, with its tiles along one of its own loops."""
    others = [i for i in own if i is not tile and extent(i) > 1]
    pair = tile if extent(tile) > height else others[-1] if others else None
    read = term.value if isinstance(term, Cast) and is_bf16(term) else term
    constant = isinstance(read, Read) and read.tensor.name in constants and not _looks_up(read)
    axes = tuple(sorted(_free(term) - {depth}, key=lambda i: i.name))
    places = tuple(map(index, axes))
    if not constant:
        term, axes, places = _windows(term, axes, depth, None if left else tile)
    if not left:  # neighbours along a tile's columns are neighbours in memory
        last = next(n for n, p in enumerate(places) if tile in iters_of((p,)))
        axes = (*axes[:last], *axes[last + 1 :], axes[last])
        places = (*places[:last], *places[last + 1 :], places[last])
    return Side(term, axes, places, tile, pair, height, constant, left)


def _looks_up(read: Read) -> bool:
    return any(isinstance(a, Lookup) for i in read.indices for a in walk_atoms(i))


def _windows(
    term: Scalar, axes: tuple[Iter, ...], depth: Iter, dense: Iter | None
) -> tuple[Scalar, tuple[Iter, ...], tuple[Index, ...]]:
    """A term over sliding windows, once for each place of the window's ground and not once for each of its points.

    Sums of iterators in its indices become axes of their own. ``dense`` must move by one along the axis it is part of.
    """
    forms: dict[Index, None] = {}
    for indices in map(own_indices, postorder(term)):
        for where in indices:
            form = where - where.offset
            if len(form.atoms) > 1 and all(isinstance(a, Iter) for a in form.atoms):
                forms[form] = None
    taken: set[Iter] = set()
    moved: dict[Atom, IndexLike] = {}
    ground: list[tuple[Iter, Index]] = []
    for form in forms:
        inside = iters_of((form,))
        pivot = next((i for i in inside if form.coefficient(i).constant == 1), None)
        low, high = interval(form)
        if pivot is None or low is None or high is None or taken & set(inside):
            continue
        if depth in inside or (dense in inside and form.coefficient(dense).constant != 1):
            continue
        taken.update(inside)
        axis = Iter(f"{pivot.name}_w", high - low + 1)
        moved[pivot] = axis + low - (form - pivot)
        ground.append((axis, form - low))
    windowed = substitute_iters(term, moved)
    rest = tuple(i for i in axes if i not in taken)
    if _free(windowed) - {depth} != set(rest) | {a for a, _ in ground}:
        return term, axes, tuple(map(index, axes))
    return windowed, (*rest, *(a for a, _ in ground)), (*map(index, rest), *(p for _, p in ground))


def _parallel(counts: Sequence[int], processor: Processor) -> int:
    """How many leading loops run in parallel as one."""
    if processor.threads == 1:
        return 0
    total = 1
    for number, count in enumerate(counts, 1):
        total *= count
        if total >= TILES_PER_THREAD * processor.threads:
            return number
    return len(counts) if total > 1 else 0
