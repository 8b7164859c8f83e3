"""Writes sums of products in blocks: factors staged in shared memory, a square of results in each thread."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import Any

from tvm import tirx

from tpopt.backend.cuda.plan import BlockProduct, Spread
from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import INDEX, Expr, Number, literal, load, minimum, scalar, store
from tpopt.backend.tvm.cuda.positions import positions
from tpopt.backend.tvm.cuda.team import ThreadEvaluator
from tpopt.backend.tvm.cuda.threads import Threads
from tpopt.backend.tvm.elements import COMPUTED
from tpopt.backend.tvm.joined import split
from tpopt.backend.tvm.operands import Operand, both
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.results import write
from tpopt.backend.tvm.tiles import Tile
from tpopt.ir import Iter, Scalar

VECTOR_BYTES = 16
"""What a thread reads from shared memory at once."""


class BlockWriter:
    """Writes what a block of threads does for its block of results."""

    def __init__(self, product: BlockProduct, threads: Threads, operands: Mapping[str, Operand]) -> None:
        self._product, self._threads, self._operands = product, threads, operands
        self._code = threads.code
        self._spread = Spread(product.nest)
        self._element = COMPUTED[product.total.bodies[0].dtype]
        self._vector = min(product.tile, VECTOR_BYTES // product.total.bodies[0].dtype.itemsize)
        self._terms = prod(map(extent, product.depth))

    def run(self) -> None:
        """The whole block."""
        product, code = self._product, self._code
        columns = ceil(prod(map(extent, product.columns)) / product.block_columns)
        rows = ceil(prod(map(extent, product.rows)) / product.block_rows)
        rest, column = split(code, self._threads.block, columns)
        batch, row = split(code, rest, rows)
        around = positions(code, product.batch, batch)
        first_row, first_column = row * product.block_rows, column * product.block_columns
        size = product.tile * product.tile
        sums = code.local("sums", size, self._element)
        with code.loop("z", size, unrolled=True) as z:
            store(code, sums, z, literal(0.0, self._element))
        left, right = (code.shared(n, product.chunk * self._pitch(t, s), self._element) for n, t, s in self._sides())
        with code.loop("c", ceil(self._terms / product.chunk)) as number:
            start = number * product.chunk
            self._stage(product.left, left, product.rows, first_row, product.block_rows, start, around)
            self._stage(product.right, right, product.columns, first_column, product.block_columns, start, around)
            self._threads.wait(self._threads.count)
            self._multiply(left, right, sums)
            self._threads.wait(self._threads.count)
        self._results(sums, around, first_row, first_column)

    def _sides(self) -> tuple[tuple[str, Scalar, int], ...]:
        product = self._product
        return ("left", product.left, product.block_rows), ("right", product.right, product.block_columns)

    def _pitch(self, term: Scalar, size: int) -> int:
        """Elements from one term to the next: neighbours that write different terms should meet different banks."""
        return size + self._vector if term in self._product.deep else size

    def _stage(
        self,
        term: Scalar,
        memory: Any,
        loops: tuple[Iter, ...],
        first: Number,
        size: int,
        start: Number,
        around: Mapping[Iter, Line],
    ) -> None:
        """Writes ``chunk`` terms of ``size`` rows or columns of a factor to shared memory, terms outermost.

        Neighbouring threads read along what lies side by side in memory. Beyond the last row the last one is read
        again, and beyond the last term there are zeros.
        """
        product, code = self._product, self._code
        most, chunk = prod(map(extent, loops)), product.chunk
        deep = term in product.deep
        with code.loop("e", ceil(size * chunk / product.threads), unrolled=True) as each:
            place = code.bind(scalar(each * product.threads + self._threads.thread))
            outer, inner = split(code, place, chunk if deep else size)
            own, depth = (outer, inner) if deep else (inner, outer)
            lines = dict(around)
            number = first + own
            lines |= positions(code, loops, number if most % size == 0 else minimum(number, most - 1))
            summed, exists = start + depth, None
            if self._terms % chunk:
                exists = code.bind(tirx.LT(scalar(summed), scalar(self._terms)))
                summed = minimum(summed, self._terms - 1)
            lines |= positions(code, product.depth, summed)
            evaluator = ThreadEvaluator(self._threads, self._operands, self._spread, Tile(lines))
            evaluator.evaluate(term)
            value = evaluator.get(term, (), ())
            if exists is not None:
                value = tirx.Select(exists, value, literal(0.0, self._element))
            held = None if size * chunk % product.threads == 0 else tirx.LT(place, scalar(size * chunk))
            store(code, memory, depth * self._pitch(term, size) + own, value, held)

    def _multiply(self, left: Any, right: Any, sums: Any) -> None:
        """Adds the products of what is staged."""
        product, code = self._product, self._code
        tile = product.tile
        row, column = split(code, self._threads.thread, product.block_columns // tile)
        of_row, of_column = (code.local(n, tile, self._element) for n in ("a", "b"))
        with code.loop("k", product.chunk, unrolled=True) as k:
            for own, held, memory, (_, term, size) in zip(
                (row, column), (of_row, of_column), (left, right), self._sides(), strict=True
            ):
                for part in range(0, tile, self._vector):
                    at = scalar(k * self._pitch(term, size) + self._offset(own, part, size))
                    store(code, held, part, load(memory, at, self._vector))
            with code.loop("i", tile, unrolled=True) as i, code.loop("j", tile, unrolled=True) as j:
                at = i * tile + j
                store(code, sums, at, load(sums, at, 1) + load(of_row, i, 1) * load(of_column, j, 1))

    def _offset(self, number: Number, part: Number, size: int) -> Number:
        """Where the rows or columns of a thread lie in its block: a vector each, as far apart as its vectors are many.

        So the threads of a warp read neighbouring vectors, which lie in different banks.
        """
        vector = self._vector
        apart = size // (self._product.tile // vector)
        if isinstance(part, int):
            return part // vector * apart + number * vector + part % vector
        whole = tirx.Div(part, tirx.const(vector, INDEX))
        return whole * apart + number * vector + (part - whole * vector)

    def _results(self, sums: Any, around: Mapping[Iter, Line], first_row: Number, first_column: Number) -> None:
        """What is computed from the sums, and stored."""
        product, code = self._product, self._code
        row, column = split(code, self._threads.thread, product.block_columns // product.tile)
        with code.loop("i", product.tile, unrolled=True) as i:
            at = first_row + self._offset(row, i, product.block_rows)
            rows, inside = self._own(product.rows, at, product.block_rows)
            with code.loop("j", product.tile, unrolled=True) as j:
                at = first_column + self._offset(column, j, product.block_columns)
                columns, also = self._own(product.columns, at, product.block_columns)
                tile = Tile({**around, **rows, **columns})
                evaluator = ThreadEvaluator(self._threads, self._operands, self._spread, tile)
                evaluator.put_sums(product.total, {(): code.bind(load(sums, i * product.tile + j, 1))})
                write(code, self._operands, evaluator, both(inside, also, lambda m: m))

    def _own(self, loops: tuple[Iter, ...], number: Number, size: int) -> tuple[dict[Iter, Line], Expr | None]:
        """Where the loops of one factor stand, and the condition under which there is such a place, if not always."""
        code, most = self._code, prod(map(extent, loops))
        number = code.bind(scalar(number))
        if most % size == 0:
            return positions(code, loops, number), None
        inside = code.bind(tirx.LT(number, scalar(most)))
        return positions(code, loops, code.bind(minimum(number, most - 1))), inside
