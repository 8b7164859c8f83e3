"""Writes the threads of a kernel: one stage over the whole grid, or the stages of a row by a team of threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

from tvm import tirx

from tpopt.backend.cuda.plan import GridPlan, Spread
from tpopt.backend.generated.plan import dense_strides
from tpopt.backend.generated.sizes import extent, shape
from tpopt.backend.tvm.code import Code, Expr, Number, minimum, scalar
from tpopt.backend.tvm.cuda.positions import positions
from tpopt.backend.tvm.cuda.products import BlockWriter
from tpopt.backend.tvm.cuda.team import ThreadEvaluator
from tpopt.backend.tvm.cuda.threads import Threads
from tpopt.backend.tvm.cuda.turns import write_turned
from tpopt.backend.tvm.elements import STORED
from tpopt.backend.tvm.joined import split
from tpopt.backend.tvm.operands import Operand, both
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.results import write
from tpopt.backend.tvm.tiles import Tile
from tpopt.ir import Iter, Tensor


class GridWriter:
    """Writes the body of one kernel. ``operands`` are its arguments by tensor name."""

    def __init__(self, plan: GridPlan, operands: Mapping[str, Operand]) -> None:
        self._plan, self._code = plan, Code()
        self._threads = Threads(self._code, plan.threads, plan.blocks)
        self._operands = dict(operands)

    def run(self) -> Any:
        """The whole body as a statement."""
        if self._plan.product is not None:
            BlockWriter(self._plan.product, self._threads, self._operands).run()
        elif self._plan.turn is not None:
            write_turned(self._plan.turn, self._threads, self._operands)
        elif self._plan.rows:
            self._rows()
        else:
            self._over_grid(self._plan.spreads[0])
        return self._threads.around(self._code.result())

    def _over_grid(self, spread: Spread) -> None:
        """Every point of a stage somewhere on the grid."""
        group, lane = self._threads.split(spread.lanes)
        points = prod(map(extent, spread.nest.order))
        each = self._plan.threads // spread.lanes
        with self._code.loop("g", spread.grain, unrolled=True) as grain:
            start = self._threads.block * (each * spread.grain) + grain * each
            number = start + group
            with self._inside(spread, number, points, self._plan.blocks * each * spread.grain) as (at, only):
                self._point(spread, at, {}, lane, only)

    def _rows(self) -> None:
        """A team of threads for each row, and for each stage its points on the threads of the team."""
        plan, code = self._plan, self._code
        number, thread = self._threads.split(plan.team)
        teams, rows = plan.threads // plan.team, prod(map(extent, plan.rows))
        row = self._threads.block * teams + number
        exists: Expr | None = None
        if rows % teams:  # threads of a team that has no row go along, so that all can wait for all
            exists = code.bind(tirx.LT(scalar(row), scalar(rows)))
            row = code.bind(minimum(row, rows - 1))
        lines = positions(self._code, plan.rows, row)
        for tensor in plan.private:
            self._operands[tensor.name] = self._private(tensor, len(plan.rows), teams, number)
        for spread in plan.spreads:
            self._stage(spread, lines, thread, exists)
            self._threads.wait(plan.team)

    def _stage(self, spread: Spread, lines: Mapping[Iter, Line], thread: Number, exists: Expr | None) -> None:
        team, lanes, code = self._plan.team, spread.lanes, self._code
        points = prod(map(extent, spread.nest.order))
        each = team // lanes
        group, lane = (0, thread) if lanes == team else split(code, thread, lanes)
        passes = -(-points // each)
        with code.loop("p", passes) as number:
            where = number * each + group
            with self._inside(spread, where, points, passes * each) as (at, only):
                self._point(spread, at, lines, lane, both(only, exists, lambda m: m))

    @contextmanager
    def _inside(self, spread: Spread, number: Number, points: int, most: int) -> Iterator[tuple[Number, Expr | None]]:
        """A point's number, and the condition under which it is one: threads without a point of their own stand idle.

        Where threads share sums they go along at the last point, and store nothing.
        """
        if most == points:
            yield number, None
            return
        exists = self._code.bind(tirx.LT(scalar(number), scalar(points)))
        if spread.lanes > 1:
            yield self._code.bind(minimum(number, points - 1)), exists
            return
        with self._code.branch(exists):
            yield number, None

    def _point(
        self, spread: Spread, number: Number, lines: Mapping[Iter, Line], lane: Number, only: Expr | None
    ) -> None:
        tile = Tile({**lines, **positions(self._code, spread.nest.order, number)})
        evaluator = ThreadEvaluator(self._threads, self._operands, spread, tile, lane)
        if spread.lanes > 1:
            only = both(only, tirx.EQ(scalar(lane), scalar(0)), lambda m: m)
        write(self._code, self._operands, evaluator, only)

    def _private(self, tensor: Tensor, depth: int, teams: int, team: Number) -> Operand:
        """Memory of one row for every team of the block."""
        inner = shape(tensor)[depth:]
        words = 2 if tensor.dtype.is_complex else 1
        size = prod(inner)
        memory = self._code.shared("row", teams * size * words, STORED[tensor.dtype])
        return Operand(memory, (0,) * depth + dense_strides(inner), tensor.dtype, 0 - team * size)
