"""Squares of elements turned in registers: read by rows along memory, handed out by columns along the lanes."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.backend.generated.access import side_by_side
from tpopt.backend.generated.plan import Sweep
from tpopt.backend.tvm.code import Code, Expr, shuffle
from tpopt.backend.tvm.elements import Value
from tpopt.backend.tvm.operands import Operand
from tpopt.backend.tvm.places import Indices, Line
from tpopt.backend.tvm.tiles import Step, Tile
from tpopt.ir import Iter, Read


def along_memory(read: Read, operand: Operand, tile: Tile) -> Iter | None:
    """The iterator of which a tile has as many steps as lanes, where a read's elements lie side by side along it alone.

    ``None`` where there is no such square, or some of its lanes are no points.
    """
    if tile.vector is None or tile.mask is not None:
        return None
    steps = [i for i, s in tile.sweeps.items() if s == Sweep(1, tile.lanes)]
    return side_by_side(read, operand.strides, tile.vector, steps)


def turned(
    code: Code, read: Read, operand: Operand, tile: Tile, along: Iter, others: Step, indices: Indices
) -> list[Value]:
    """The values of a read at every step along memory, one vector of lanes each; at the other iterators' steps."""
    first = operand.offset(read.indices, tile.place(others), indices)
    assert isinstance(first, Line), f"the lanes of {read} do not lie evenly spaced along {along}"
    rows = (Line(first.base + lane * first.step, 1) for lane in range(tile.lanes))
    return transposed(code, [operand.load(code, row, tile.lanes, None) for row in rows])


def transposed(code: Code, rows: Sequence[Expr]) -> list[Expr]:
    """A square of values with rows and columns exchanged: the k-th result has the k-th lane of every row.

    In log2 of its side rounds, in each of which blocks of two rows change places; the side is a power of two.
    """
    size, found = len(rows), list(rows)
    distance = size // 2
    while distance:
        lower = [k if not k & distance else k - distance + size for k in range(size)]
        upper = [k + distance if not k & distance else k + size for k in range(size)]
        for first in (k for k in range(size) if not k & distance):
            pair = [found[first], found[first + distance]]
            found[first], found[first + distance] = (code.bind(shuffle(pair, lanes)) for lanes in (lower, upper))
        distance //= 2
    return found
