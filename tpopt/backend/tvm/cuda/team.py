"""Terms as threads evaluate them: one element each, sums shared by several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import ceil

from tvm import tirx

from tpopt.backend.cuda.device import WARP
from tpopt.backend.cuda.plan import Spread
from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import Expr, Number
from tpopt.backend.tvm.cuda.threads import Threads
from tpopt.backend.tvm.elements import Value
from tpopt.backend.tvm.operands import Operands
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.reductions import Parts, merge
from tpopt.backend.tvm.summing import Run, Summing
from tpopt.backend.tvm.tiles import Step, Tile
from tpopt.backend.tvm.values import Context, Evaluator
from tpopt.ir import Reduce


class ThreadEvaluator(Evaluator):
    """Values of one stage's terms at the point of one thread, which is number ``lane`` of those that share its sums."""

    def __init__(self, threads: Threads, operands: Operands, spread: Spread, tile: Tile, lane: Number = 0) -> None:
        super().__init__(threads.code, operands, {}, spread.nest, tile)
        self._threads, self._spread, self._lane = threads, spread, lane

    def summed(self, base: Reduce, context: Context, steps: Sequence[Step]) -> Mapping[Step, tuple[Value, ...]]:
        along = next((i for i in base.iters if i in self._spread.along), None)
        if along is None or self._spread.lanes == 1:
            return super().summed(base, context, steps)
        lanes = self._spread.lanes
        runs = [Run(i, extent(i)) for i in base.iters if i is not along]
        runs.append(Run(along, ceil(extent(along) / lanes), lanes, extent(along)))
        parts = Summing(self, base, context, steps).run_from(runs, {along: Line.of(self._lane)})
        return {step: self._shared(base, mine) for step, mine in parts.items()}

    def _shared(self, base: Reduce, mine: Parts) -> Parts:
        """The partial results of all threads that share a sum as one, which all of them get."""
        dtypes = tuple(b.dtype for b in base.bodies)
        lanes, threads, bind = self._spread.lanes, self._threads, self.code.bind
        distance = min(lanes, WARP) // 2
        while distance:
            other = _each(mine, partial(threads.exchanged, distance=distance))
            mine = _each(merge(base.monoid, mine, other, dtypes, bind), bind)
            distance //= 2
        mine = _each(mine, partial(threads.first, size=min(lanes, WARP)))
        if lanes <= WARP:
            return mine
        flat = [v for part in mine for v in (part if isinstance(part, tuple) else (part,))]
        total: Parts | None = None
        for found in threads.from_warps(flat):
            rest = iter(found)
            parts = _each(mine, partial(_next, rest))
            total = parts if total is None else _each(merge(base.monoid, total, parts, dtypes, bind), bind)
        assert total is not None
        return total

    def stop_where(self, bad: Expr, message: str) -> None:
        """As torch's own kernels do: the device stops, and every later call of the process says so."""
        del message  # nothing on the device could say it
        with self.code.branch(bad):
            self.code.emit(tirx.Evaluate(tirx.call_extern("int32", "__trap")))


def _next(rest: Iterator[Expr], _before: Expr) -> Expr:
    return next(rest)


def _each(parts: Parts, change: Callable[[Expr], Expr]) -> Parts:
    """Every number of partial results changed; a complex one is two."""
    return tuple(tuple(change(v) for v in p) if isinstance(p, tuple) else change(p) for p in parts)
