"""Writes stages that move axes: a square of points is read along one side, and written along the other."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from tvm import tirx

from tpopt.backend.cuda.plan import SIDE, TURN_THREADS, Spread, Turn
from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import Expr, Number, load, minimum, scalar, store
from tpopt.backend.tvm.cuda.positions import positions
from tpopt.backend.tvm.cuda.team import ThreadEvaluator
from tpopt.backend.tvm.cuda.threads import Threads
from tpopt.backend.tvm.elements import STORED, from_memory
from tpopt.backend.tvm.joined import split
from tpopt.backend.tvm.operands import Operand, both
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.results import write
from tpopt.backend.tvm.tiles import Tile
from tpopt.ir import Iter

PITCH = SIDE + 1
"""Elements from one line in shared memory to the next: neighbours along both sides lie in different banks."""
PASSES = SIDE * SIDE // TURN_THREADS


def write_turned(turn: Turn, threads: Threads, operands: Mapping[str, Operand]) -> None:
    """Writes what a block does for its square of points."""
    code = threads.code
    rest, along = split(code, threads.block, ceil(extent(turn.target) / SIDE))
    other, across = split(code, rest, ceil(extent(turn.source) / SIDE))
    around = positions(code, turn.others, other)
    line, place = threads.split(SIDE)
    memories = [code.shared("turned", SIDE * PITCH, STORED[r.dtype]) for r in turn.reads]

    def evaluator(source: Number, target: Number) -> tuple[ThreadEvaluator, Expr | None]:
        """At a point of the square, and the condition under which it is one: beyond the edge the last one is read."""
        lines: dict[Iter, Line] = dict(around)
        inside: Expr | None = None
        for loop, base, own in ((turn.source, across, source), (turn.target, along, target)):
            number = code.bind(scalar(base * SIDE + own))
            if extent(loop) % SIDE:
                exists = code.bind(tirx.LT(number, scalar(extent(loop))))
                inside = both(inside, exists, lambda m: m)
                number = code.bind(scalar(minimum(number, extent(loop) - 1)))
            lines[loop] = Line.of(number)
        return ThreadEvaluator(threads, operands, Spread(turn.nest), Tile(lines)), inside

    with code.loop("q", PASSES, unrolled=True) as q:
        row = q * (TURN_THREADS // SIDE) + line
        at, _ = evaluator(place, row)
        for read, memory in zip(turn.reads, memories, strict=True):
            store(code, memory, row * PITCH + place, _raw(at, read, operands))
    threads.wait(TURN_THREADS)
    with code.loop("q", PASSES, unrolled=True) as q:
        row = q * (TURN_THREADS // SIDE) + line
        at, inside = evaluator(row, place)
        for read, memory in zip(turn.reads, memories, strict=True):
            at.put_read(read, code.bind(from_memory(code.bind(load(memory, place * PITCH + row, 1)), read.dtype)))
        write(code, operands, at, inside)


def _raw(at: ThreadEvaluator, read: Any, operands: Mapping[str, Operand]) -> Expr:
    """An element as it lies in memory."""
    operand = operands[read.tensor.name]
    where = operand.offset(read.indices, at.tile.place(()), at.indices)
    assert isinstance(where, Line)
    return at.code.bind(load(operand.buffer, where.base, 1))
