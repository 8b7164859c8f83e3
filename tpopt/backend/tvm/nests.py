"""Writes the loops of a kernel: those that its stages share, then each stage's own, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod

from tvm import tirx

from tpopt.backend.generated.blocks import the_sum, tiles
from tpopt.backend.generated.fuse import SCRATCH_BYTES
from tpopt.backend.generated.interior import Interior, interior
from tpopt.backend.generated.plan import BLOCK, KernelPlan, Nest, Pack, Sweep, dense_strides
from tpopt.backend.generated.sizes import extent, shape
from tpopt.backend.tvm.code import Code, Expr, Number, literal, load, minimum, scalar, store
from tpopt.backend.tvm.elements import STORED
from tpopt.backend.tvm.joined import apart
from tpopt.backend.tvm.operands import Operand, tail_mask
from tpopt.backend.tvm.places import Line, Place, vector
from tpopt.backend.tvm.results import write
from tpopt.backend.tvm.summing import Summing, block_runs, loops
from tpopt.backend.tvm.tiles import Tile
from tpopt.backend.tvm.values import Evaluator
from tpopt.ir import Iter, Read, Tensor


@dataclass(frozen=True)
class _Part:
    """The tiles of a loop that one thread runs: ``count`` from ``start``."""

    iterator: Iter | None = None
    start: Number = 0
    count: Number = 0

    def most(self, iterator: Iter, nest: Nest) -> int:
        """Tiles of a loop that one thread runs at most."""
        shares = nest.shares if iterator is self.iterator else 1
        return -(-tiles(iterator, nest.sweeps) // shares)


class Writer:
    """Writes the body of one kernel. ``operands`` are its arguments by tensor name."""

    def __init__(self, plan: KernelPlan, operands: Mapping[str, Operand]) -> None:
        self.code = Code()
        self._plan = plan
        self._operands = dict(operands)
        self._packs: dict[Read, tuple[Pack, Operand]] = {p.read: (p, operands[p.name]) for p in plan.packs}

    def run(self) -> object:
        """The whole body as a statement."""
        self._scratch(0, {})
        self._level(self._plan.nests, 0, {})
        return self.code.result()

    def _level(self, nests: Sequence[Nest], depth: int, lines: Mapping[Iter, Line]) -> None:
        """Stages in order at one depth of the shared loops; neighbours that lie deeper share the next loop."""
        group: list[Nest] = []
        for nest in nests:
            if nest.depth > depth:
                group.append(nest)
                continue
            self._deeper(group, depth, lines)
            group = []
            self._nest(nest, lines)
        self._deeper(group, depth, lines)

    def _deeper(self, nests: Sequence[Nest], depth: int, lines: Mapping[Iter, Line]) -> None:
        if not nests:
            return
        parallel = depth == 0 and self._plan.parallel > 0
        rows = self._plan.rows[depth : depth + (self._plan.parallel if parallel else 1)]
        trips = {i: self._plan.trips(i) for i in rows}
        with self._fused(trips, parallel=parallel) as numbers:
            inside = {**lines, **{i: self._row(i, n) for i, n in numbers.items()}}
            self._scratch(depth + len(rows), inside)
            self._level(nests, depth + len(rows), inside)

    def _row(self, iterator: Iter, number: Number) -> Line:
        """Where a shared loop stands: the first row of a block, where it runs in blocks."""
        block = self._plan.block
        if block == 1 or iterator is not self._plan.rows[-1]:
            return Line.of(number)
        last = extent(iterator) - 1
        if last % block == 0:
            return Line.of(number * block, block)
        base = minimum(number * block, last)
        return Line.of(base if isinstance(base, int) else self.code.bind(base))

    def _scratch(self, depth: int, lines: Mapping[Iter, Line]) -> None:
        """Memory for what stages at this depth hand to each other, and further in."""
        made = {o: n.depth for n in reversed(self._plan.nests) for o in n.work.outs}
        for tensor in self._plan.private:
            if made[tensor] == depth:
                self._operands[tensor.name] = self._private(tensor, depth, lines)

    def _private(self, tensor: Tensor, depth: int, lines: Mapping[Iter, Line]) -> Operand:
        """Memory of one row, or of a block of them, where those lie that are at hand."""
        block, words = self._plan.block, 2 if tensor.dtype.is_complex else 1
        blocked = block > 1 and depth == len(self._plan.rows)
        inner = (block,) * blocked + shape(tensor)[depth:]
        strides = (0,) * (depth - blocked) + dense_strides(inner)
        origin = lines[self._plan.rows[-1]].base * strides[depth - 1] if blocked else 0
        size = prod(inner) * words
        make = self.code.local if size * tensor.dtype.itemsize // words <= SCRATCH_BYTES else self.code.workspace
        memory = make("row", size, STORED[tensor.dtype])
        return Operand(memory, strides, tensor.dtype, origin)

    @contextmanager
    def _fused(self, trips: Mapping[Iter, int], *, parallel: bool) -> Iterator[dict[Iter, Number]]:
        """Numbers of several loops that run as one, outermost first, each so often."""
        with self.code.loop("t", prod(trips.values()), parallel=parallel) as flat:
            yield dict(zip(trips, apart(self.code, flat, list(trips.values())), strict=True))

    def _nest(self, nest: Nest, lines: Mapping[Iter, Line]) -> None:
        """One stage's own loops."""
        if nest.outside:
            self._in_blocks(nest)
            return
        found = interior(nest)
        with self._part(nest) as part, self._tiles(nest, nest.order, nest.parallel, part) as numbers:
            tile = self._tile(nest, numbers, lines)
            for version in self._versions(nest, found, tile):
                write(self.code, self._operands, Evaluator(self.code, self._operands, self._packs, version, tile))

    def _versions(self, nest: Nest, found: Interior | None, tile: Tile) -> Iterator[Nest]:
        """The nest without the guards that hold in all of a tile, where they do, and as it is elsewhere."""
        if found is None:
            yield nest
            return
        evaluator = Evaluator(self.code, self._operands, self._packs, nest, tile)
        first = Place({i: Line.of(line.base) for i, line in tile.lines.items()})
        inside: Expr | None = None
        for where, low in found.least:
            holds = vector(evaluator.indices.at(where, first), 1) >= scalar(low)
            inside = holds if inside is None else tirx.And(inside, holds)
        inside = self.code.bind(inside)
        with self.code.branch(inside):
            yield replace(nest, work=found.work)
        with self.code.branch(tirx.Not(inside)):
            yield nest

    def _in_blocks(self, nest: Nest) -> None:
        """All tiles through a block of terms of the sum before the next block; the partial sums wait in memory."""
        total, inner, code, found = the_sum(nest), nest.order[nest.outside :], self.code, interior(nest)
        assert total is not None
        vector = nest.vector
        assert vector is not None
        lanes = nest.sweeps[vector].lanes
        blocks, within = block_runs(total, BLOCK)
        free = Evaluator(code, self._operands, self._packs, nest, Tile()).free(total)
        steps = Tile({}, nest.sweeps, {}, vector).steps(free)
        size = lanes * len(steps)
        with self._part(nest) as part, self._tiles(nest, nest.order[: nest.outside], nest.parallel, part) as outer:
            count = size * prod(part.most(i, nest) for i in inner)
            sums = code.workspace("sums", count, "float32")
            with code.loop("z", count // lanes) as z:
                store(code, sums, z * lanes, literal(0.0, "float32", lanes))
            with loops(code, blocks, {}) as start, self._tiles(nest, inner, 0, part) as numbers:
                tile = self._tile(nest, {**outer, **numbers}, {})
                for version in self._versions(nest, found, tile):
                    evaluator = Evaluator(code, self._operands, self._packs, version, tile)
                    base = the_sum(version)
                    assert base is not None
                    for n, block in enumerate(Summing(evaluator, base, (), steps).block(within, start)):
                        at = self._place(nest, inner, numbers, part) * size + n * lanes
                        store(code, sums, at, load(sums, at, lanes) + block)
            with self._tiles(nest, inner, 0, part) as numbers:
                evaluator = self._evaluator(nest, {**outer, **numbers})
                at = self._place(nest, inner, numbers, part) * size
                evaluator.put_sums(
                    total, {s: code.bind(load(sums, at + n * lanes, lanes)) for n, s in enumerate(steps)}
                )
                write(self.code, self._operands, evaluator)

    def _evaluator(self, nest: Nest, numbers: Mapping[Iter, Number]) -> Evaluator:
        return Evaluator(self.code, self._operands, self._packs, nest, self._tile(nest, numbers, {}))

    def _place(self, nest: Nest, inner: Sequence[Iter], numbers: Mapping[Iter, Number], part: _Part) -> Number:
        """The number of a tile among those that wait."""
        place: Number = 0
        for iterator in inner:
            own = numbers[iterator] - part.start if iterator is part.iterator else numbers[iterator]
            place = place * part.most(iterator, nest) + own
        return place

    @contextmanager
    def _part(self, nest: Nest) -> Iterator[_Part]:
        """One thread's part of the loop that is divided."""
        if nest.divided is None:
            yield _Part()
            return
        count, shares = tiles(nest.divided, nest.sweeps), nest.shares
        with self.code.loop("t", shares, parallel=True) as number:
            if count % shares == 0:
                yield _Part(nest.divided, number * scalar(count // shares), count // shares)
                return
            ends = [tirx.Div((number + n) * scalar(count), scalar(shares)) for n in (0, 1)]
            start = self.code.bind(ends[0])
            yield _Part(nest.divided, start, self.code.bind(ends[1] - start))

    @contextmanager
    def _tiles(self, nest: Nest, order: Sequence[Iter], parallel: int, part: _Part) -> Iterator[dict[Iter, Number]]:
        """Loops over the tiles of some of a nest's loops, the leading ones in parallel as one; yields their numbers."""
        with ExitStack() as stack:
            numbers: dict[Iter, Number] = {}
            if parallel:
                trips = {i: tiles(i, nest.sweeps) for i in order[:parallel]}
                numbers.update(stack.enter_context(self._fused(trips, parallel=True)))
            for iterator in order[parallel:]:
                count = part.count if iterator is part.iterator else tiles(iterator, nest.sweeps)
                number = stack.enter_context(self.code.loop(iterator.name, count))
                numbers[iterator] = number + part.start if iterator is part.iterator else number
            yield numbers

    def _tile(self, nest: Nest, numbers: Mapping[Iter, Number], lines: Mapping[Iter, Line]) -> Tile:
        own = {i: self._line(i, numbers[i], nest) for i in nest.order}
        vector = nest.vector
        mask = None
        if vector is not None and extent(vector) < nest.sweeps[vector].lanes:
            mask = tail_mask(extent(vector), nest.sweeps[vector].lanes)
        return Tile({**lines, **own}, dict(nest.sweeps), dict(numbers), vector, mask)

    def _line(self, iterator: Iter, number: Number, nest: Nest) -> Line:
        """The first point of a tile; the last tile moves back so that it ends where the loop does."""
        sweep = nest.sweeps.get(iterator, Sweep())
        step = 1 if sweep.lanes > 1 else 0
        size = extent(iterator)
        base = number * sweep.span if isinstance(number, int) else number * scalar(sweep.span)
        if size % sweep.span == 0 or size < sweep.span:
            return Line(base, step, sweep.span)
        base = minimum(base, size - sweep.span)
        return Line(base if isinstance(base, int) else self.code.bind(base), step)
