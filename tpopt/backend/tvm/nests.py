"""Writes the loops of a kernel: those that its stages share, then each stage's own, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod

from tvm import tirx

from tpopt.backend.generated.plan import KernelPlan, Nest, Pack, Sweep, dense_strides
from tpopt.backend.generated.sizes import extent, shape
from tpopt.backend.tvm.code import INDEX, Code, Number, minimum, scalar
from tpopt.backend.tvm.elements import STORED, widened
from tpopt.backend.tvm.operands import Operand, tail_mask
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.tiles import Tile
from tpopt.backend.tvm.values import Evaluator
from tpopt.ir import Iter, Read, Tensor, index


class Writer:
    """Writes the body of one kernel. ``operands`` are its arguments by tensor name."""

    def __init__(self, plan: KernelPlan, operands: Mapping[str, Operand]) -> None:
        self.code = Code()
        self._plan = plan
        self._operands = dict(operands)
        self._packs: dict[Read, tuple[Pack, Operand]] = {p.read: (p, operands[p.name]) for p in plan.packs}

    def run(self) -> object:
        """The whole body as a statement."""
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
        with self._fused(rows, {}, parallel=parallel) as numbers:
            inside = {**lines, **{i: Line.of(n) for i, n in numbers.items()}}
            self._scratch(depth + len(rows))
            self._level(nests, depth + len(rows), inside)

    def _scratch(self, depth: int) -> None:
        """Memory for what stages at this depth hand to each other."""
        made = {o: n.depth for n in self._plan.nests for o in n.stage.outs}
        for tensor in self._plan.private:
            if made[tensor] == depth:
                self._operands[tensor.name] = self._private(tensor, depth)

    def _private(self, tensor: Tensor, depth: int) -> Operand:
        inner = shape(tensor)[depth:]
        strides = (0,) * depth + dense_strides(inner)
        words = 2 if tensor.dtype.is_complex else 1
        return Operand(self.code.local("row", prod(inner) * words, STORED[tensor.dtype]), strides, tensor.dtype)

    @contextmanager
    def _fused(
        self, loops: Sequence[Iter], sweeps: Mapping[Iter, Sweep], *, parallel: bool
    ) -> Iterator[dict[Iter, Number]]:
        """Tile numbers of several loops that run as one."""
        trips = [_tiles(i, sweeps.get(i, Sweep())) for i in loops]
        with self.code.loop("t", prod(trips), parallel=parallel) as flat:
            numbers: dict[Iter, Number] = {}
            rest = flat
            for iterator, count in reversed(list(zip(loops, trips, strict=True))):
                numbers[iterator], rest = self._split(rest, count)
            yield numbers

    def _split(self, flat: Number, count: int) -> tuple[Number, Number]:
        if isinstance(flat, int):
            return flat % count, flat // count
        if count == 1:
            return 0, flat
        quotient = self.code.bind(tirx.Div(flat, tirx.const(count, INDEX)))
        return self.code.bind(flat - quotient * tirx.const(count, INDEX)), quotient

    def _nest(self, nest: Nest, lines: Mapping[Iter, Line]) -> None:
        """One stage's own loops."""
        with ExitStack() as stack:
            numbers: dict[Iter, Number] = {}
            if nest.parallel:
                numbers.update(
                    stack.enter_context(self._fused(nest.order[: nest.parallel], nest.sweeps, parallel=True))
                )
            for iterator in nest.order[nest.parallel :]:
                count = _tiles(iterator, nest.sweeps.get(iterator, Sweep()))
                numbers[iterator] = stack.enter_context(self.code.loop(iterator.name, count))
            own = {i: self._line(i, numbers[i], nest) for i in nest.order}
            vector = nest.vector
            mask = None
            if vector is not None and extent(vector) < nest.sweeps[vector].lanes:
                mask = tail_mask(extent(vector), nest.sweeps[vector].lanes)
            tile = Tile({**lines, **own}, dict(nest.sweeps), numbers, vector, mask)
            self._write(nest, tile)

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

    def _write(self, nest: Nest, tile: Tile) -> None:
        stage = nest.stage
        evaluator = Evaluator(self.code, self._operands, self._packs, nest, tile)
        for body in stage.bodies:
            evaluator.evaluate(body)
        for out, body in zip(stage.outs, stage.bodies, strict=True):
            operand = self._operands[out.name]
            for step in tile.steps(stage.loops):
                place = tile.place(step)
                lanes = tile.lanes if tile.vector in stage.loops else 1
                where = operand.offset(tuple(index(i) for i in stage.loops), place, evaluator.indices)
                value = widened(evaluator.get(body, (), step), lanes)
                operand.store(self.code, where, value, lanes, tile.mask if lanes > 1 else None)


def _tiles(iterator: Iter, sweep: Sweep) -> int:
    return -(-extent(iterator) // sweep.span)
