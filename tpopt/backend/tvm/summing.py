"""Reductions as loops: accumulators in registers, long sums in blocks, lanes folded at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd, prod
from typing import TYPE_CHECKING, Any, TypeAlias

from tvm import tirx

from tpopt.backend.generated.blocks import split_sum
from tpopt.backend.generated.plan import LONG_SUM, Sweep
from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import Code, Expr, lanes_of, literal, load, minimum, scalar, store
from tpopt.backend.tvm.elements import COMPUTED, Value, choose, to_memory
from tpopt.backend.tvm.operands import tail_mask
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.reductions import across_lanes, identity, merge
from tpopt.backend.tvm.tiles import Step, Tile
from tpopt.ir import Const, DType, Iter, Position, Read, Reduce, Scalar, Select
from tpopt.ir.walk import children

if TYPE_CHECKING:
    from tpopt.backend.tvm.values import Context, Evaluator

Parts: TypeAlias = "tuple[Value, ...]"


@dataclass(frozen=True)
class Run:
    """One loop of a reduction: an iterator from the place that outer runs leave it at, ``trips`` times ``step``.

    Where ``of`` is given, it ends there at the latest.
    """

    iter: Iter
    trips: int
    step: int = 1
    of: int = 0


def block_runs(base: Reduce, longest: int = LONG_SUM) -> tuple[list[Run], list[Run]]:
    """The loops over blocks of a sum, and those within one; only the latter for ``longest`` terms at most."""
    blocks, within = split_sum(base, longest)
    outer = [Run(i, -(-extent(i) // each), each) for i, each in blocks]
    split = dict(blocks)
    inner = [
        Run(i, each, 1, extent(i) if extent(i) % each else 0)
        if n == 0 and split.get(i) == each > 1
        else Run(i, extent(i))
        for n, (i, each) in enumerate(within)
    ]
    return outer, inner


@contextmanager
def loops(
    code: Code, runs: Sequence[Run], start: Mapping[Iter, Line], across: Iter | None = None
) -> Iterator[Mapping[Iter, Line]]:
    """Loops one in the other; yields where the iterators stand. ``across`` lies in vectors."""
    lines = dict(start)
    if not runs:
        yield lines
        return
    run = runs[0]
    base = lines.get(run.iter, Line.of(0))
    trips: Any = run.trips
    if run.of:
        left = run.of - base.base
        trips = minimum(run.trips, left if run.step == 1 else tirx.Div(left + (run.step - 1), scalar(run.step)))
    with code.loop(run.iter.name, trips, step=run.step) as value:
        lines[run.iter] = Line(base.base + value, 1 if run.iter is across else 0, gcd(base.multiple, run.step))
        with loops(code, runs[1:], lines, across) as inside:
            yield inside


class Accumulators:
    """A partial result for each of a number of places, in local memory at known positions."""

    def __init__(self, evaluator: Evaluator, base: Reduce, count: int, lanes: int) -> None:
        self._code, self._monoid, self._lanes = evaluator.code, base.monoid, lanes
        self._dtypes = tuple(b.dtype for b in base.bodies)
        self._count = count
        self._buffers = [[self._code.local("acc", count * lanes, k) for k in _stored(d)] for d in self._dtypes]

    def reset(self) -> None:
        """Puts the identity everywhere."""
        start = identity(self._monoid, self._dtypes, self._lanes)
        for number in range(self._count):
            self.set(number, start)

    def get(self, number: int) -> Parts:
        """The partial result at one place, under a name."""
        found = []
        for dtype, buffers in zip(self._dtypes, self._buffers, strict=True):
            parts = [self._code.bind(load(b, number * self._lanes, self._lanes)) for b in buffers]
            if dtype is DType.BOOL:
                parts = [tirx.NE(p, literal(0, "int8", self._lanes)) for p in parts]
            found.append(tuple(parts) if dtype.is_complex else parts[0])
        return tuple(found)

    def set(self, number: int, parts: Parts) -> None:
        """Replaces it."""
        for dtype, buffers, part in zip(self._dtypes, self._buffers, parts, strict=True):
            values = part if isinstance(part, tuple) else (part,)
            for buffer, value in zip(buffers, values, strict=True):
                kept = to_memory(value, dtype, self._code.bind) if dtype is DType.BOOL else value
                store(self._code, buffer, number * self._lanes, kept)

    def merge(self, number: int, parts: Parts) -> None:
        """Adds a term, or another partial result, to what lies at one place."""
        self.set(number, merge(self._monoid, self.get(number), parts, self._dtypes, self._code.bind))


def _stored(dtype: DType) -> list[str]:
    if dtype is DType.BOOL:
        return ["int8"]
    return [COMPUTED[dtype]] * (2 if dtype.is_complex else 1)


class Summing:
    """One reduction at all ``steps`` of an evaluator's tile."""

    def __init__(self, evaluator: Evaluator, base: Reduce, context: Context, steps: Sequence[Step]) -> None:
        self._evaluator, self._base, self._context, self._steps = evaluator, base, context, list(steps)
        tile, nest = evaluator.tile, evaluator.nest
        self._dtypes = tuple(b.dtype for b in base.bodies)
        depends = evaluator.depends(base, context)
        in_vector = tile.vector is not None and tile.vector in depends
        self._across = None if in_vector else next((i for i in base.iters if i in nest.across), None)
        self._sweep = nest.across[self._across] if self._across is not None else Sweep()
        self._lanes = tile.lanes if in_vector else self._sweep.lanes
        self._mask = tile.mask if in_vector else None

    def run(self) -> Mapping[Step, Parts]:
        """Writes the loops; returns the result at each step."""
        self._hoist()
        outer, inner = self._runs()
        total = self._accumulators()
        total.reset()
        if outer:
            part = self._accumulators()
            with loops(self._evaluator.code, outer, {}, self._across) as start:
                part.reset()
                self._inner(inner, start, part)
                for number in range(len(self._steps) * self._sweep.count):
                    total.merge(number, part.get(number))
        else:
            self._inner(inner, {}, total)
        return {step: self._folded(total, number) for number, step in enumerate(self._steps)}

    def run_from(self, runs: Sequence[Run], start: Mapping[Iter, Line]) -> Mapping[Step, Parts]:
        """Writes given loops from where iterators stand; returns what they add up at each step."""
        self._hoist()
        total = self._accumulators()
        total.reset()
        self._inner(runs, start, total)
        return {step: total.get(number) for number, step in enumerate(self._steps)}

    def block(self, runs: Sequence[Run], start: Mapping[Iter, Line]) -> list[Expr]:
        """One block of a float32 sum from where the loops over blocks stand; the sum at each step."""
        self._hoist()
        part = self._accumulators()
        part.reset()
        self._inner(runs, start, part)
        return [part.get(number)[0] for number in range(len(self._steps))]

    def _accumulators(self) -> Accumulators:
        return Accumulators(self._evaluator, self._base, len(self._steps) * self._sweep.count, self._lanes)

    def _folded(self, total: Accumulators, number: int) -> Parts:
        count, code = self._sweep.count, self._evaluator.code
        parts = total.get(number * count)
        for k in range(1, count):
            parts = merge(self._base.monoid, parts, total.get(number * count + k), self._dtypes, code.bind)
        if self._across is not None:
            parts = across_lanes(self._base.monoid, parts, self._dtypes, code.bind)
        return tuple(tuple(map(code.bind, p)) if isinstance(p, tuple) else code.bind(p) for p in parts)

    def _hoist(self) -> None:
        """Evaluates what the loops would compute anew each time though it does not depend on them."""
        inner = set(self._base.iters)
        pending: list[Scalar] = list(self._base.bodies)
        while pending:
            term = pending.pop()
            if isinstance(term, (Const, Position, Read, Select)):
                continue
            if not inner & self._evaluator.free(term):
                self._evaluator.evaluate(term, self._context)
            elif isinstance(term, Reduce):
                continue
            else:
                pending += children(term)

    def _runs(self) -> tuple[list[Run], list[Run]]:
        """The loops over blocks, and those within one, outermost first; what lies in vectors is the innermost."""
        if self._across is None:
            blocked = self._base.monoid == "sum" and self._dtypes[0].is_float
            return block_runs(self._base) if blocked else ([], [Run(i, extent(i)) for i in self._base.iters])
        runs = [Run(i, extent(i)) for i in self._base.iters if i is not self._across]
        runs.append(Run(self._across, extent(self._across) // self._sweep.span, self._sweep.span))
        long = prod(r.trips for r in runs) > LONG_SUM and self._base.monoid == "sum" and self._dtypes[0].is_float
        return (runs[:-1], runs[-1:]) if long else ([], runs)

    def _inner(self, runs: Sequence[Run], start: Mapping[Iter, Line], into: Accumulators) -> None:
        """The loops that add terms to accumulators, and what is left over of the one in vectors."""
        if self._across is None:
            with loops(self._evaluator.code, runs, start) as lines:
                self._add(lines, into, 1, None)
            return
        *outer, last = runs
        with loops(self._evaluator.code, outer, start, self._across) as lines:
            if last.trips:
                with loops(self._evaluator.code, [last], lines, self._across) as inside:
                    self._add(inside, into, self._sweep.count, None)
            done, lanes = last.trips * self._sweep.span, self._sweep.lanes
            while done < extent(last.iter):
                left = extent(last.iter) - done
                mask = tail_mask(left, lanes) if left < lanes else None
                self._add({**lines, last.iter: Line(done, 1, done)}, into, 1, mask)
                done += lanes

    def _add(self, lines: Mapping[Iter, Line], into: Accumulators, count: int, mask: Expr | None) -> None:
        """One term for each step, merged into its accumulator."""
        evaluator = self._evaluator
        tile = evaluator.tile.inside(lines)
        if self._across is not None:
            sweeps = {**tile.sweeps, self._across: Sweep(self._sweep.lanes, count)}
            tile = Tile(tile.lines, sweeps, tile.numbers, self._across, mask)
        before = evaluator.push(tile)
        for body in self._base.bodies:
            evaluator.evaluate(body, self._context)
        for number, step in enumerate(self._steps):
            for k in range(count):
                at = step if self._across is None or count == 1 else (*step, (self._across, k))
                parts = tuple(self._wide(evaluator.get(b, self._context, at)) for b in self._base.bodies)
                if mask is not None:
                    nothing = identity(self._base.monoid, self._dtypes, self._lanes)
                    parts = tuple(choose(mask, p, n) for p, n in zip(parts, nothing, strict=True))
                into.merge(number * self._sweep.count + k, parts)
        evaluator.pop(before)

    def _wide(self, value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(self._wide(v) for v in value)
        return value if lanes_of(value) == self._lanes else tirx.Broadcast(value, self._lanes)
