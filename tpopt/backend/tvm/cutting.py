"""Cuts the factors of products into three bf16 parts of each float32, laid out as tiles are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

from tvm import tirx

from tpopt.backend.generated.access import lane_step
from tpopt.backend.generated.parts import LINE, TERMS, TILE, Side
from tpopt.backend.generated.plan import Sweep, dense_strides
from tpopt.backend.generated.sizes import extent
from tpopt.backend.tvm.code import Code, Expr, Number, literal, minimum, splat, store
from tpopt.backend.tvm.joined import apart
from tpopt.backend.tvm.operands import tail_mask
from tpopt.backend.tvm.places import Line
from tpopt.backend.tvm.tiles import Tile
from tpopt.backend.tvm.values import Evaluator
from tpopt.ir import Iter

LANES: Final = 16
LARGE: Final = 1 << 15
"""Elements from which cutting a factor is worth a second thread."""
INFINITE: Final = 0x7F800000
UPPER: Final = 0xFFFF0000

At: TypeAlias = Callable[[Tile], Evaluator]
"""Makes an evaluator of the stage's terms at a tile."""


@dataclass(frozen=True)
class Memory:
    """Where the parts of a side lie: ``shape`` elements of a flat buffer, 16 bits each or pairs of them.

    They belong to one point of the loops ``within``.
    """

    side: Side
    depth: Iter
    buffer: Any
    within: tuple[Iter, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, outermost first."""
        return self.side.shape(self.depth, self.within)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the side's axes, in elements."""
        inside = [i for i in self.side.axes if i not in self.within]
        found = dict(zip(inside, dense_strides(self.shape), strict=False))
        if self._columns:
            found[inside[-1]] = 1
        return tuple(found.get(i, 0) for i in self.side.axes)

    @property
    def part(self) -> int:
        """Elements from one part of a tile to the next; blocks of terms follow one another."""
        if self.side.constant:
            return self.shape[-1] * self.shape[-2]
        return TILE * self.shape[-1] if self._columns else LINE

    @property
    def row_bytes(self) -> int:
        """Bytes from one row of a tile to the next."""
        if self.side.constant:
            return 2 * LINE
        if self._columns:
            return 4 * self.shape[-1]
        steps = (lane_step(p, self.side.tile, 1) or 0 for p in self.side.places)
        return 2 * sum(n * s for n, s in zip(steps, self.strides, strict=True))

    @property
    def _columns(self) -> bool:
        """Whether the last axis lies side by side, inside of blocks and parts."""
        return not self.side.left and not self.side.constant


def cut(code: Code, memory: Memory, at: At, around: Mapping[Iter, Line]) -> None:
    """Writes the loops that fill the memory of a side, at one point of the loops ``around``."""
    _Cutter(code, memory, at).write(around)


class _Cutter:
    def __init__(self, code: Code, memory: Memory, at: At) -> None:
        self._code, self._memory, self._at = code, memory, at
        self._depth, self._parts = memory.depth, memory.side.parts
        self._blocks, self._rest = divmod(extent(self._depth), TERMS)

    def write(self, around: Mapping[Iter, Line]) -> None:
        side, within = self._memory.side, self._memory.within
        strides = dict(zip(side.axes, self._memory.strides, strict=True))
        axes = [i for i in (side.axes if side.left else side.axes[:-1]) if i not in within]
        counts = [extent(i) for i in axes]
        large = prod(map(extent, side.axes)) * extent(self._depth) >= LARGE and prod(counts) > 1
        row = self._row if side.left else self._pairs
        with self._code.loop("t", prod(counts), parallel=large and not within) as flat:
            lines = {i: around[i] for i in within}
            base: Number = 0
            for axis, number in zip(axes, apart(self._code, flat, counts), strict=True):
                lines[axis] = Line.of(number)
                base = base + number * strides[axis]
            row(lines, named(self._code, base))

    def _row(self, lines: Mapping[Iter, Line], base: Number) -> None:
        """Terms of a left factor: ``[block][part][term]``."""
        with self._code.loop(self._depth.name, self._blocks) as block:
            for half in (0, LANES) if self._blocks else ():
                start = named(self._code, block * TERMS + half)
                self._half(lines, start, base + block * (self._parts * LINE) + half, LANES)
        for half in (0, LANES) if self._rest else ():
            at = base + self._blocks * self._parts * LINE + half
            self._half(lines, self._blocks * TERMS + half, at, min(LANES, self._rest - half))

    def _half(self, lines: Mapping[Iter, Line], start: Number, at: Number, active: int) -> None:
        parts = [literal(0, "uint32", LANES)] * self._parts
        if active > 0:
            mask = tail_mask(active, LANES) if active < LANES else None
            value = self._value({**lines, self._depth: Line(start, 1, LANES)}, self._depth, mask)
            if mask is not None:
                value = self._code.bind(tirx.Select(mask, value, literal(0.0, "float32", LANES)))
            parts = [upper(b) for b in parts_of(self._code, value, self._parts)]
        for number, part in enumerate(parts):
            store(self._code, self._memory.buffer, at + number * LINE, tirx.Cast(f"uint16x{LANES}", part))

    def _pairs(self, lines: Mapping[Iter, Line], base: Number) -> None:
        """Terms of a right factor, two by two: ``[block][part][pair][column]``."""
        row = self._memory.shape[-1]
        if self._blocks:
            with self._code.loop("block", self._blocks) as block, self._code.loop("pair", TERMS // 2) as pair:
                start = named(self._code, block * TERMS + pair * 2)
                self._columns(lines, start, 2, named(self._code, base + (block * (self._parts * TILE) + pair) * row))
        for pair in range(TERMS // 2 if self._rest else 0):
            at = named(self._code, base + (self._blocks * self._parts * TILE + pair) * row)
            self._columns(lines, self._blocks * TERMS + 2 * pair, max(0, min(2, self._rest - 2 * pair)), at)

    def _columns(self, lines: Mapping[Iter, Line], start: Number, terms: int, base: Number) -> None:
        last = self._memory.side.axes[-1]
        with self._code.loop(last.name, -(-extent(last) // LANES)) as number:
            first = clamped(self._code, number, LANES, extent(last))
            words = [literal(0, "uint32", LANES)] * self._parts
            for term in range(terms):
                along = {**lines, self._depth: Line.of(start + term), last: Line(first, 1)}
                bits = parts_of(self._code, self._value(along, last, None), self._parts)
                if term == 0:
                    words = [upper(b) for b in bits]
                else:
                    high = [tirx.bitwise_and(b, literal(UPPER, "uint32", LANES)) for b in bits]
                    words = [tirx.bitwise_or(w, h) for w, h in zip(words, high, strict=True)]
            for part, word in enumerate(words):
                store(self._code, self._memory.buffer, base + part * self._memory.part + first, word)

    def _value(self, lines: Mapping[Iter, Line], vector: Iter, mask: Expr | None) -> Expr:
        evaluator = self._at(Tile(lines, {vector: Sweep(LANES)}, {}, vector, mask))
        evaluator.evaluate(self._memory.side.term)
        return self._code.bind(splat(evaluator.get(self._memory.side.term, (), ()), LANES))


def parts_of(code: Code, value: Expr, count: int) -> list[Expr]:
    """A vector of float32 as bits whose upper halves are its parts."""
    found = []
    for number in range(count):
        bits = code.bind(tirx.reinterpret(f"uint32x{LANES}", value))
        found.append(bits)
        if number == count - 1:
            break
        rest = value - tirx.reinterpret(f"float32x{LANES}", tirx.bitwise_and(bits, literal(UPPER, "uint32", LANES)))
        if number == 0:  # an infinite number is its own first part, and nothing remains
            magnitude = tirx.bitwise_and(bits, literal(0x7FFFFFFF, "uint32", LANES))
            infinite = tirx.EQ(magnitude, literal(INFINITE, "uint32", LANES))
            rest = tirx.Select(infinite, literal(0.0, "float32", LANES), rest)
        value = code.bind(rest)
    return found


def upper(bits: Expr) -> Expr:
    """The upper halves of words, as the lower ones."""
    return tirx.shift_right(bits, literal(16, "uint32", LANES))


def clamped(code: Code, number: Number, span: int, size: int) -> Number:
    """The first element of a tile; the last tile moves back so that it ends where the loop does."""
    base = number * span
    return named(code, base if size % span == 0 else minimum(base, size - span))


def named(code: Code, value: Number) -> Number:
    """A number under a name, unless it is known."""
    return value if isinstance(value, int) else code.bind(value)
