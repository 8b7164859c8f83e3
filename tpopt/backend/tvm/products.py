"""Writes kernels for the matrix unit: factors cut into parts, products of tiles, and what is done with the sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from tvm import tirx

from tpopt.backend.generated.parts import TERMS, TILE, Products, Side
from tpopt.backend.generated.plan import KernelPlan, Nest, Sweep, Work
from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import Code, Expr, Number, differ, literal, load, minimum, splat, store
from tpopt.backend.tvm.cutting import LANES, UPPER, Memory, clamped, cut, named
from tpopt.backend.tvm.elements import widened
from tpopt.backend.tvm.joined import apart
from tpopt.backend.tvm.operands import Operand
from tpopt.backend.tvm.places import Indices, Line, Place, Where
from tpopt.backend.tvm.tile_unit import TILES, TileUnit
from tpopt.backend.tvm.tiles import Tile
from tpopt.backend.tvm.values import Evaluator
from tpopt.ir import DType, Iter, Read, Reduce, Scalar, Tensor, index
from tpopt.ir.interpret.terms import shared
from tpopt.ir.walk import rebuild

KEPT: Final = ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))
"""Parts whose products are kept, of the left factor and of the right one: each step loads at most one side anew."""
LEFT, RIGHT = 4, 6
"""The first tiles of both factors; the sums are in those before."""
SUMS: Final = "sums"
TASKS: Final = 16
"""Tasks that leading loops are dealt out in, or somewhat more: each has to set the unit up."""


@dataclass(frozen=True)
class _Operand:
    """One tile of a factor: where it starts (elements), the first point that belongs to it."""

    memory: Memory
    lines: Mapping[Iter, Line]
    number: Number
    """The tile's number along its loop."""


@dataclass(frozen=True)
class _Pass:
    """Terms from block ``start`` on, added to sums in ``onto``, if any; the new sums go into ``into``, or are final."""

    start: Number
    blocks: int
    onto: Any = None
    into: Any = None


class ProductWriter:
    """Writes the body of one kernel on the matrix unit. ``operands`` are its arguments by tensor name."""

    def __init__(self, plan: KernelPlan, operands: Mapping[str, Operand]) -> None:
        assert plan.products is not None
        self._products: Products = plan.products
        self._operands = dict(operands)
        self._code = Code()
        self._nest = Nest(Work.of(self._products.stage), order=self._products.stage.loops)
        self._indices = Indices(self._code.bind, _no_lookup)
        (self._out,) = self._products.stage.outs

    def run(self) -> object:
        """The whole body as a statement."""
        products, code = self._products, self._code
        if products.within:
            self._pass(None, _Pass(0, products.blocks))
            return code.result()
        factors = self._factors({})
        chunk, blocks = products.chunk, products.blocks
        if chunk >= blocks:
            self._pass(factors, _Pass(0, blocks))
            return code.result()
        tiles = products.left.steps * products.right.steps * products.left.size * TILE
        totals = code.workspace("totals", prod(map(products.count, products.order)) * tiles, "float32")
        self._pass(factors, _Pass(0, chunk, into=totals))
        passes = -(-blocks // chunk)
        if passes > 2:
            with code.loop("chunk", passes - 2) as number:
                start = named(code, number * chunk + chunk)
                self._pass(factors, _Pass(start, chunk, totals, totals))
        done = (passes - 1) * chunk
        self._pass(factors, _Pass(done, blocks - done, totals))
        return code.result()

    def _factors(self, around: Mapping[Iter, Line]) -> tuple[Memory, Memory]:
        """Both factors, cut into parts at a point of the loops around."""
        left, right = (self._memory(s) for s in (self._products.left, self._products.right))
        for memory in (left, right):
            if not memory.side.constant:
                cut(self._code, memory, self._evaluator, around)
        return left, right

    def _pass(self, factors: tuple[Memory, Memory] | None, terms: _Pass) -> None:
        """All tiles once, through some of the terms; factors that are missing are cut for each point of the batch."""
        products, code = self._products, self._code
        leading = products.order[: products.parallel]
        with ExitStack() as stack:
            numbers: dict[Iter, Number] = {}
            counts = [products.count(i) for i in leading]
            total = prod(counts)
            each = max(1, total // TASKS)
            task = stack.enter_context(code.loop("task", -(-total // each), parallel=bool(leading)))
            unit = TileUnit(code)
            unit.configure([products.left.size] * RIGHT + [TILE] * (TILES - RIGHT))
            with ExitStack() as inner:
                start = task * each
                here = inner.enter_context(code.loop("t", minimum(each, total - start) if total % each else each))
                numbers.update(zip(leading, apart(code, named(code, start + here), counts), strict=True))
                for loop in products.order[products.parallel :]:
                    if factors is None and loop not in products.within:
                        factors = self._factors({i: Line.of(numbers[i]) for i in products.within})
                    numbers[loop] = inner.enter_context(code.loop(loop.name, products.count(loop)))
                assert factors is not None, "each factor has a loop of its own"
                self._block(unit, factors, numbers, terms)
            unit.restore()

    def _memory(self, side: Side) -> Memory:
        depth, within = self._products.depth, self._products.within
        if side.constant:
            name = next(p.name for p in self._products.constants if p.side is side)
            return Memory(side, depth, self._operands[name].buffer)
        element = "uint16" if side.left else "uint32"
        buffer = self._code.workspace("parts", prod(side.shape(depth, within)), element)
        return Memory(side, depth, buffer, within)

    def _evaluator(self, tile: Tile) -> Evaluator:
        return Evaluator(self._code, self._operands, {}, self._nest, tile)

    def _block(
        self, unit: TileUnit, factors: tuple[Memory, Memory], numbers: Mapping[Iter, Number], terms: _Pass
    ) -> None:
        """Tiles side by side through the terms of a pass, and after the last one what is done with their sums."""
        code, (left, right) = self._code, factors
        rows = [self._operand(left, numbers, s) for s in range(left.side.steps)]
        columns = [self._operand(right, numbers, s) for s in range(right.side.steps)]
        common = {i: Line.of(n) for i, n in numbers.items()}
        size = left.side.size * TILE
        tiles = len(rows) * len(columns)
        place: Number = 0
        for loop in self._products.order:
            place = place * self._products.count(loop) + numbers[loop]
        place = named(code, place * (tiles * size))
        for n in range(tiles):
            if terms.onto is None:
                unit.zero(n)
            else:
                unit.load(n, terms.onto, place + n * size, 4 * TILE)
        with self._terms(common, rows, columns, (terms.start, terms.blocks)) as (starts, block):
            self._multiply(unit, starts, block, rows, columns)
        if terms.into is not None:
            for n in range(tiles):
                unit.store(n, terms.into, place + n * size, 4 * TILE)
            return
        sums = code.local(SUMS, tiles * size, "float32")
        for n in range(tiles):
            unit.store(n, sums, n * size, 4 * TILE)
        self._mend(sums, common, rows, columns)
        self._finish(sums, common, rows, columns)

    def _operand(self, memory: Memory, numbers: Mapping[Iter, Number], step: int) -> _Operand:
        """One of the tiles side by side."""
        side, lines, tile = memory.side, dict[Iter, Line](), numbers[memory.side.tile]
        if side.pair is not None:
            size = side.tiles if side.pair is side.tile else extent(side.pair)
            number = numbers[side.pair] * 2 + step
            number = named(self._code, number if size % 2 == 0 else minimum(number, size - 1))
            if side.pair is side.tile:
                tile = number
            else:
                lines[side.pair] = Line.of(number)
        lines[side.tile] = Line.of(clamped(self._code, tile, side.size, extent(side.tile)))
        return _Operand(memory, lines, tile)

    @contextmanager
    def _terms(
        self,
        common: Mapping[Iter, Line],
        rows: Sequence[_Operand],
        columns: Sequence[_Operand],
        span: tuple[Number, int],
    ) -> Iterator[tuple[list[Number], Number]]:
        """The loops over terms: where each tile of the two factors starts, and the number of the block of terms.

        ``span`` is the first block, and how many there are.
        """
        with ExitStack() as stack:
            outer = {i: Line.of(stack.enter_context(self._code.loop(i.name, extent(i)))) for i in self._products.outer}
            starts = [self._start(o, {**common, **outer}) for o in (*rows, *columns)]
            yield starts, span[0] + stack.enter_context(self._code.loop("block", span[1]))

    def _start(self, operand: _Operand, around: Mapping[Iter, Line]) -> Number:
        """Where the first part of a tile's first block lies, in elements."""
        memory, lines = operand.memory, {**around, **operand.lines}
        if memory.side.constant:
            lines[memory.side.tile] = Line.of(operand.number)
        total: Number = 0
        for place, stride in zip(memory.side.places, memory.strides, strict=True):
            where = self._indices.at(place, Place(lines))
            assert isinstance(where, Line)
            total = total + where.base * stride
        return named(self._code, total)

    def _multiply(
        self,
        unit: TileUnit,
        starts: Sequence[Number],
        block: Number,
        rows: Sequence[_Operand],
        columns: Sequence[_Operand],
    ) -> None:
        loaded: dict[int, int] = {}
        there = (rows[0].memory.side.parts, columns[0].memory.side.parts)
        for parts in (p for p in KEPT if p[0] < there[0] and p[1] < there[1]):
            for first, part, operands, begin in (
                (LEFT, parts[0], rows, starts[: len(rows)]),
                (RIGHT, parts[1], columns, starts[len(rows) :]),
            ):
                if loaded.get(first) == part:
                    continue
                loaded[first] = part
                for n, (operand, start) in enumerate(zip(operands, begin, strict=True)):
                    memory = operand.memory
                    at = start + block * (memory.side.parts * memory.part) + part * memory.part
                    unit.load(first + n, memory.buffer, at, memory.row_bytes)
            for i in range(len(rows)):
                for j in range(len(columns)):
                    unit.multiply(i * len(columns) + j, LEFT + i, RIGHT + j)

    def _mend(
        self, sums: Any, common: Mapping[Iter, Line], rows: Sequence[_Operand], columns: Sequence[_Operand]
    ) -> None:
        """Sums that are not finite are computed anew, number by number: products of parts turn infinities into NaN."""
        code, height = self._code, rows[0].memory.side.size
        tiles = len(rows) * len(columns)
        spoiled = [code.local("spoiled", LANES, "float32") for _ in range(tiles)]
        for buffer in spoiled:
            store(code, buffer, 0, literal(0.0, "float32", LANES))
        with code.loop("row", height) as row:
            for n, buffer in enumerate(spoiled):
                value = load(sums, (n * height + row) * TILE, LANES) * literal(0.0, "float32", LANES)
                store(code, buffer, 0, load(buffer, 0, LANES) + value)
        total = load(spoiled[0], 0, LANES)
        for buffer in spoiled[1:]:
            total = total + load(buffer, 0, LANES)
        zero = literal(0.0, "float32")
        wrong = differ(tirx.call_llvm_pure_intrin("float32", "llvm.vector.reduce.fadd", zero, code.bind(total)), zero)
        with code.branch(wrong), code.loop("row", height) as row:
            for i in range(len(rows)):
                for j in range(len(columns)):
                    at = ((i * len(columns) + j) * height + row) * TILE
                    store(code, sums, at, literal(0.0, "float32", LANES))
                    with self._terms(common, [rows[i]], [columns[j]], (0, self._products.blocks)) as ((a, b), block):
                        start = (
                            a + block * (rows[i].memory.side.parts * rows[i].memory.part),
                            b + block * (columns[j].memory.side.parts * columns[j].memory.part),
                        )
                        self._slowly((sums, at), (rows[i].memory, columns[j].memory), start, row)

    def _slowly(
        self, into: tuple[Any, Number], factors: tuple[Memory, Memory], starts: tuple[Number, Number], row: Number
    ) -> None:
        """One block of terms of one row, as float32."""
        code, (sums, at), (left, right) = self._code, into, factors
        with code.loop("pair", TERMS // 2) as pair:
            for term in (0, 1):
                factor, column = literal(0.0, "float32"), literal(0.0, "float32", LANES)
                for part in reversed(range(left.side.parts)):
                    place = starts[0] + part * left.part + row * (left.row_bytes // 2) + pair * 2 + term
                    bits = tirx.shift_left(tirx.Cast("uint32", load(left.buffer, place, 1)), tirx.const(16, "uint32"))
                    factor = factor + tirx.reinterpret("float32", bits)
                for part in reversed(range(right.side.parts)):
                    column = column + self._column(right, starts[1] + part * right.part, pair, term)
                value = splat(code.bind(factor), LANES) * column
                store(code, sums, at, load(sums, at, LANES) + value)

    def _column(self, right: Memory, start: Number, pair: Number, term: int) -> Expr:
        """One part of one term in all columns of a tile."""
        if right.side.constant:
            words = [load(right.buffer, start + pair * (2 * TILE), 2 * LANES)]
            half = tirx.Shuffle(words, list(range(term, 2 * LANES, 2)))
            bits = tirx.shift_left(tirx.Cast(f"uint32x{LANES}", half), literal(16, "uint32", LANES))
        else:
            word = load(right.buffer, start + pair * (right.row_bytes // 4), LANES)
            shifted = tirx.shift_left(word, literal(16, "uint32", LANES))
            bits = tirx.bitwise_and(word, literal(UPPER, "uint32", LANES)) if term else shifted
        return tirx.reinterpret(f"float32x{LANES}", bits)

    def _finish(
        self, sums: Any, common: Mapping[Iter, Line], rows: Sequence[_Operand], columns: Sequence[_Operand]
    ) -> None:
        """The stage's body at each point of the tiles, with the sums in the place of the reduction."""
        code, side, last = self._code, rows[0].memory.side, columns[0].memory.side.tile
        body = self._with_sums(self._products.stage.bodies[0], side.tile, last)
        where = tuple(map(index, self._products.stage.loops))
        with code.loop("row", side.size) as row:
            for i, top in enumerate(rows):
                first = top.lines[side.tile].base
                for j, aside in enumerate(columns):
                    start = aside.lines[last].base
                    lines = {**common, **top.lines, **aside.lines, side.tile: Line.of(named(code, first + row))}
                    lines[last] = Line(start, 1, TILE if extent(last) % TILE == 0 else 1)
                    origin = first * TILE + start - (i * len(columns) + j) * side.size * TILE
                    read = Operand(sums, (TILE, 1), DType.F32, named(code, origin))
                    tile = Tile(lines, {last: Sweep(LANES)}, {}, last, None)
                    evaluator = Evaluator(code, {**self._operands, SUMS: read}, {}, self._nest, tile)
                    evaluator.evaluate(body)
                    value = widened(evaluator.get(body, (), ()), LANES)
                    out = self._operands[self._out.name]
                    offset: Where = out.offset(where, tile.place(()), evaluator.indices)
                    out.store(code, offset, value, LANES, None)

    def _with_sums(self, body: Scalar, row: Iter, column: Iter) -> Scalar:
        read = Read(Tensor(SUMS, (row.extent, column.extent), DType.F32), (index(row), index(column)))

        def one(term: Scalar) -> Scalar:
            return read if isinstance(term, Reduce) and shared(term) is self._products.total else term

        return rebuild(body, one)


def _no_lookup(*_: object) -> Where:
    raise AssertionError("places of factors do not depend on data")
