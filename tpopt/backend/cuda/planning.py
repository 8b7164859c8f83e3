"""From the algebra of a kernel to its grid: which loop neighbouring threads run along, how many share a sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, prod
from typing import Final

from tpopt.backend.cuda.device import STATIC_SHARED_BYTES, WARP, Device
from tpopt.backend.cuda.plan import SIDE, TURN_THREADS, GridPlan, Spread
from tpopt.backend.cuda.products import block_product
from tpopt.backend.cuda.turns import turned
from tpopt.backend.generated.access import Access
from tpopt.backend.generated.fuse import Rows, fused
from tpopt.backend.generated.plan import Nest, Work
from tpopt.backend.generated.planning import Ready, computed_stages, tensors_read, works
from tpopt.backend.generated.sizes import extent, shape
from tpopt.errors import KernelUnsupported
from tpopt.ir import Iter, Program, Tensor

BLOCK: Final = 256
"""Threads of a block of points: eight warps hide the latency of one another on any card."""
TEAMS_BLOCK: Final = 128
"""Threads of a block of small teams."""
MOST_TEAM: Final = 1024
FULL: Final = 1024
"""Threads of a multiprocessor that hide the latency of memory."""
TERMS_EACH: Final = 4
"""Terms of a sum, or points of a row, that a thread should have at least."""
GRAIN: Final = 4
"""Points of one thread where there are many: their loads are under way together."""


def plan_grid(program: Program, device: Device, strides: Mapping[str, tuple[int, ...]] | None = None) -> GridPlan:
    """The plan of a kernel that computes a program of Compute stages on a GPU.

    ``strides`` (elements) belong to inputs that are not dense. Raises :class:`KernelUnsupported` with what stands in
    the way.
    """
    known = dict(strides or {})
    rows = fused(computed_stages(program, known), program.outputs)
    ready = works(rows, known)
    plain = {t.name for w, _ in ready.works for t in tensors_read(w)}
    reads = tuple(t for t in program.inputs if t.name in plain)
    if ready.rows:
        return replace(_in_rows(reads, rows, ready, device, known | ready.steps), outs=program.outputs, strides=known)
    ((work, _),) = ready.works
    strides = known | ready.steps
    product = block_product(work, device, strides)
    if product is not None:
        tiles = _blocks(product.rows, product.block_rows) * _blocks(product.columns, product.block_columns)
        blocks = prod(map(extent, product.batch)) * tiles
        return GridPlan(
            reads, program.outputs, (), product.threads, blocks, product=product, strides=known, steps=ready.steps
        )
    turn = turned(work, strides)
    if turn is not None:
        blocks = prod(map(extent, turn.others)) * prod(ceil(extent(i) / SIDE) for i in (turn.target, turn.source))
        return GridPlan(reads, program.outputs, (), TURN_THREADS, blocks, turn=turn, strides=known, steps=ready.steps)
    spread, threads = _over_grid(work, device, strides)
    points = prod(map(extent, work.loops))
    blocks = ceil(points / (threads // spread.lanes * spread.grain))
    return GridPlan(reads, program.outputs, (spread,), threads, blocks, strides=known, steps=ready.steps)


def _blocks(loops: Sequence[Iter], size: int) -> int:
    return ceil(prod(map(extent, loops)) / size)


def _over_grid(work: Work, device: Device, strides: Mapping[str, tuple[int, ...]]) -> tuple[Spread, int]:
    """A single stage, and the threads of a block: warps share sums that run through memory, or where points are few."""
    access, points = Access(work, strides), prod(map(extent, work.loops))
    order = _order(work.loops, access)
    along, terms = _along(access)
    wanted = device.multiprocessors * FULL
    lanes = 1
    if along and terms >= WARP and _in_memory(access, along) > _in_memory(access, order[-1:]):
        lanes = WARP
    while points * lanes * 2 <= wanted and lanes < WARP and lanes * 2 * TERMS_EACH <= terms:
        lanes *= 2
    if lanes == WARP and points * BLOCK <= wanted and terms >= BLOCK * TERMS_EACH:
        lanes = BLOCK
    threads = max(WARP, min(BLOCK, _power_of_two(points * lanes)))
    grain = GRAIN if lanes == 1 and not access.reduces and points >= GRAIN * 2 * wanted else 1
    return Spread(Nest(work, 0, order), lanes, along if lanes > 1 else frozenset(), grain), threads


def _in_rows(
    reads: tuple[Tensor, ...], rows: Rows, ready: Ready, device: Device, strides: dict[str, tuple[int, ...]]
) -> GridPlan:
    """Stages that share rows: a team of threads for each row, so large that none of them has little to do."""
    count, depth = prod(map(extent, ready.rows)), len(ready.rows)
    if any(d != depth for _, d in ready.works):
        raise KernelUnsupported("stages share rows at different depths")
    held = sum(o.dtype.itemsize * prod(shape(o)[depth:]) for o in rows.private)
    if held > STATIC_SHARED_BYTES:
        raise KernelUnsupported(f"a row has {held} bytes between its stages, a block {STATIC_SHARED_BYTES}")
    widest = max(_width(w, depth, strides) for w, _ in ready.works)
    team = min(BLOCK, _power_of_two(ceil(widest / TERMS_EACH)))
    while team < min(MOST_TEAM, widest) and count * team < device.multiprocessors * FULL // 2:
        team *= 2
    threads = team if team > WARP else TEAMS_BLOCK
    while threads > team and threads // team * held > STATIC_SHARED_BYTES:
        threads //= 2
    spreads = tuple(_in_team(w, depth, team, strides) for w, _ in ready.works)
    blocks = ceil(count / (threads // team))
    return GridPlan(
        reads, rows.outs, spreads, threads, blocks, ready.rows, team, rows.private, strides=strides, steps=ready.steps
    )


def _width(work: Work, depth: int, strides: Mapping[str, tuple[int, ...]]) -> int:
    """Threads that one row of a stage could keep busy."""
    points = prod(map(extent, work.loops[depth:]))
    _, terms = _along(Access(work, strides))
    return max(points, min(points * terms, MOST_TEAM * TERMS_EACH))


def _in_team(work: Work, depth: int, team: int, strides: Mapping[str, tuple[int, ...]]) -> Spread:
    """One stage of a row: its points on the threads of a team; sums are shared where there are more threads."""
    access, own = Access(work, strides), work.loops[depth:]
    points = prod(map(extent, own))
    order = _order(own, access)
    along, terms = _along(access)
    lanes = 1
    while lanes * 2 * points <= team and lanes * 2 <= terms:
        lanes *= 2
    if WARP < lanes < team:  # sums are shared by a warp, or by the whole block
        lanes = WARP
    return Spread(Nest(work, depth, order), lanes, along if lanes > 1 else frozenset())


def _order(loops: Sequence[Iter], access: Access) -> tuple[Iter, ...]:
    """Loops, outermost first: last comes the one along which most tensors lie side by side."""
    if not loops:
        return ()

    def side_by_side(iterator: Iter) -> tuple[int, int, int]:
        found = _in_memory(access, (iterator,)) + (access.out_step(iterator) == 1)
        return (extent(iterator) >= WARP // 4, found, loops.index(iterator))

    fastest = max(loops, key=side_by_side)
    return (*(i for i in loops if i is not fastest), fastest)


def _in_memory(access: Access, along: Sequence[Iter] | frozenset[Iter]) -> int:
    """Reads that lie side by side along an iterator."""
    return sum(any(access.step(r, i) == 1 for i in along) for r in access.reads)


def _along(access: Access) -> tuple[frozenset[Iter], int]:
    """For each reduction the iterator that threads share, and the least terms along one; nothing for no reduction."""
    found: dict[Iter, None] = {}
    for reduce in dict.fromkeys(access.reduces):
        if not any(i in found for i in reduce.iters):
            found[max(reduce.iters, key=lambda i: _worth(access, i))] = None
    if not found:
        return frozenset(), 1
    return frozenset(found), min(map(extent, found))


def _worth(access: Access, iterator: Iter) -> tuple[bool, int, int]:
    """How good an iterator is for sharing a sum: long, and memory lies along it."""
    return extent(iterator) >= WARP, _in_memory(access, (iterator,)), extent(iterator)


def _power_of_two(number: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()
