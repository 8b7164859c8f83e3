"""Blocks of rows: stages that share rows run for several at a time, so that products read their operands less often.

A row of an attention's scores meets all keys, and the next row meets the same ones: a block of rows meets them once for
each tile of registers, as a product of matrices does.
"""

from __future__ import annotations

from math import prod
from typing import Final

from tpopt.backend.generated.access import depends_on
from tpopt.backend.generated.fuse import SCRATCH_BYTES, Rows
from tpopt.backend.generated.plan import Case, Work
from tpopt.backend.generated.sizes import extent, shape
from tpopt.ir import Compute, Index, Iter, Read, Reduce, index
from tpopt.ir.index import Atom, IndexLike, substitute
from tpopt.ir.walk import fresh_name, postorder, substitute_iters

STEP: Final = 8
"""Rows of a block are a multiple of these: what one tile of registers holds."""
MOST_ROWS: Final = 48


def block_of(rows: Rows) -> int:
    """How many rows run at a time: 1 where a product's operands all change from row to row."""
    inside = [s for s in rows.stages if rows.depth(s) == len(rows.rows)]
    if not rows.rows or len(inside) < 2 or not any(_meets_again(s, rows.rows[-1]) for s in inside):
        return 1
    size, private = extent(rows.rows[-1]), set(rows.private)
    held = sum(o.dtype.itemsize * prod(shape(o)[len(rows.rows) :]) for s in inside for o in s.outs if o in private)
    counts = range(STEP, min(MOST_ROWS, size, SCRATCH_BYTES // max(held, 1)) + 1, STEP)
    return min(counts, key=lambda n: (-(-size // n) * n, -n), default=1)


def _meets_again(stage: Compute, row: Iter) -> bool:
    """Whether a stage sums products of something that changes with the row, and something that does not."""
    for term in postorder(*stage.bodies):
        if isinstance(term, Reduce):
            reads = [t for t in postorder(*term.bodies) if isinstance(t, Read)]
            again = [any(i in depends_on(t) for i in term.iters) and row not in depends_on(t) for t in reads]
            if any(again) and not all(again):
                return True
    return False


def blocked(work: Work, row: Iter, first: Iter, block: int) -> Work:
    """A work that shares a row as one for ``block`` rows from ``first`` on, which takes the row's place."""
    inner = Iter(fresh_name("in_block", {i.name: None for i in work.loops}), block)
    moved: dict[Atom, IndexLike] = {row: index(first) + inner}

    def at(where: Index) -> Index:
        return substitute(where, moved)

    cases = tuple(
        Case(tuple(substitute_iters(b, moved) for b in c.bodies), tuple(map(at, c.where)), c.guard) for c in work.cases
    )
    place = work.loops.index(row)
    return Work(work.outs, (*work.loops[:place], first, inner, *work.loops[place + 1 :]), cases)
