"""Operands that a kernel turns round first: a sum of products along which both factors lie side by side.

``q[i,d] * k[j,d]`` summed over ``d`` has no loop along which both vectors and results lie: ``k`` is copied with ``j``
innermost into memory of the kernel's own, once for all rows of ``q`` that it meets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from tpopt.backend.generated.access import Access, depends_on
from tpopt.backend.generated.fuse import Rows
from tpopt.backend.generated.plan import Work
from tpopt.backend.generated.sizes import extent
from tpopt.ir import Compute, Iter, Read, Reduce, Tensor
from tpopt.ir.walk import postorder, rebuild, stage_reads
from tpopt.rewrite.contraction import factors_of

LEAST_ROWS: Final = 8
"""Rows that a turned operand meets at least: copying it costs as much as a few of them."""
MOST_BYTES: Final = 64 * 1024
"""What is copied for one point of the shared loops stays in the first two caches, and on the stack."""


@dataclass(frozen=True)
class Turned:
    """The stage that copies an operand, which shares ``depth`` loops with ``reader``, the stage that reads the copy."""

    copy: Compute
    depth: int
    reader: Compute

    @property
    def points(self) -> int:
        """How often the operand is copied, each time another part of it."""
        return prod(map(extent, self.copy.loops[: self.depth]))


def with_turned(rows: Rows, strides: Mapping[str, tuple[int, ...]], constants: frozenset[str], threads: int) -> Rows:
    """The same with operands turned round where that pays: each is copied by a stage that shares fewer loops.

    ``constants`` of a kernel of one stage are laid out before it runs. Each of the ``threads`` copies operands of its
    own.
    """
    made = {o for s in rows.stages for o in s.outs}
    if not rows.rows:
        made |= {t for s in rows.stages for t in stage_reads(s) if t.name in constants}
    shared, stages = rows.rows, list[Compute]()
    for stage in rows.stages:
        found = turned(stage, strides, made)
        if found is None or (shared and found.depth > len(shared)) or found.points < threads:
            stages.append(stage)
            continue
        shared = shared or stage.loops[: found.depth]
        stages.insert(_ahead(Rows(shared, tuple(stages), rows.outs), found.depth), found.copy)
        stages.append(found.reader)
    return Rows(shared, tuple(stages), rows.outs, rows.steps)


def _ahead(rows: Rows, depth: int) -> int:
    """Where a stage of so many shared loops goes: before those with more, whose loops must not end between them."""
    place = len(rows.stages)
    while place and rows.depth(rows.stages[place - 1]) > depth:
        place -= 1
    return place


def turned(stage: Compute, strides: Mapping[str, tuple[int, ...]], taken: Collection[Tensor]) -> Turned | None:
    """A stage with one of its operands turned round; ``None`` where that does not pay. ``taken`` stay as they are."""
    sums = [t for t in postorder(*stage.bodies) if isinstance(t, Reduce)]
    if len(sums) != 1 or sums[0].monoid != "sum" or not stage.loops:
        return None
    factors = factors_of(sums[0].bodies[0])
    if len(factors) != 2:
        return None
    last, access = stage.loops[-1], Access(Work.of(stage), strides)
    for read, other in (factors, factors[::-1]):
        if not (isinstance(read, Read) and isinstance(other, Read)) or read.tensor in taken:
            continue
        batch = _batch(stage, read, last)
        own = [i for i in stage.loops if i in depends_on(other) and i not in batch]
        summed = [i for i in sums[0].iters if i in depends_on(read)]
        copied = prod(map(extent, (*summed, last)))
        if (
            _lies_along(access, read, last, summed)
            and last not in depends_on(other)
            and batch
            and prod(map(extent, own)) >= LEAST_ROWS
            and copied * read.dtype.itemsize <= MOST_BYTES
        ):
            return _made(stage, read, batch, (*summed, last))
    return None


def _batch(stage: Compute, read: Read, last: Iter) -> tuple[Iter, ...]:
    """The leading loops, all that a read depends on but the last one; none where others stand between them."""
    count = max((n for n, i in enumerate(stage.loops[:-1], 1) if i in depends_on(read)), default=0)
    found = stage.loops[:count]
    return found if all(i in depends_on(read) or extent(i) == 1 for i in found) and last not in found else ()


def _lies_along(access: Access, read: Read, last: Iter, summed: Sequence[Iter]) -> bool:
    """Whether neighbours along a summed iterator lie side by side, and those along the last loop apart."""
    return any(access.step(read, i) == 1 for i in summed) and access.step(read, last) not in (0, 1)


def _made(stage: Compute, read: Read, batch: Sequence[Iter], inner: Sequence[Iter]) -> Turned:
    loops = (*batch, *inner)
    out = Tensor(f"{stage.outs[0].name}_{read.tensor.name}_turned", tuple(map(extent, loops)), read.dtype)
    again = out.at(loops)
    bodies = tuple(rebuild(b, lambda t: again if t is read else t) for b in stage.bodies)
    return Turned(Compute((out,), loops, (read,)), len(batch), Compute(stage.outs, stage.loops, bodies))
