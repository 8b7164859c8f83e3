"""Tensors as a kernel sees them: flat memory, strides, and what lies there in which type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tvm import tirx

from tpopt.backend.tvm.code import (
    INDEX,
    Code,
    Expr,
    Number,
    gather,
    lanes_of,
    literal,
    load,
    maximum,
    minimum,
    scatter_store,
    shuffle,
    store,
)
from tpopt.backend.tvm.elements import Value, from_memory, to_memory
from tpopt.backend.tvm.places import Indices, Line, Place, Where, add, multiply, vector
from tpopt.ir import Index
from tpopt.ir.dtypes import DType

NOTHING: Final[Mapping[int, int]] = MappingProxyType({})


@dataclass(frozen=True)
class Operand:
    """Elements of type ``dtype`` in a flat buffer; an axis of stride 0 is not stored.

    What lies at ``origin`` on the axes' scale lies first in the buffer. Around a ``foreign`` one may be no memory.
    """

    buffer: Any
    strides: tuple[int, ...]
    dtype: DType
    origin: Number = 0
    foreign: bool = False

    def offset(self, at: tuple[Index, ...], place: Place, indices: Indices, held: Mapping[int, int] = NOTHING) -> Where:
        """Where an element lies, in elements. Axes in ``held`` are not left where all lanes stand at one place."""
        total: Where = Line.of(0 - self.origin)
        for axis, (where, stride) in enumerate(zip(at, self.strides, strict=True)):
            if stride:
                stands = indices.at(where, place)
                if axis in held and isinstance(stands, Line) and not stands.step:
                    stands = Line.of(maximum(minimum(stands.base, held[axis] - 1), 0))
                part = multiply(Line.of(stride), stands, place.lanes)
                total = add(total, part, place.lanes)
        return total

    def load(self, code: Code, at: Where, lanes: int, mask: Expr | None) -> Value:
        """The elements at an offset; in as many lanes as the offset has."""
        if self.dtype.is_complex:
            return self._load_pairs(code, at, lanes, mask)
        return from_memory(self._raw(code, at, lanes, mask), self.dtype)

    def _raw(self, code: Code, at: Where, lanes: int, mask: Expr | None) -> Expr:
        if isinstance(at, Line) and at.step == 0:
            if mask is None or lanes_of(mask) == 1:
                return code.bind(load(self.buffer, at.base, 1, mask))
        elif isinstance(at, Line) and at.step == 1:
            return code.bind(load(self.buffer, at.base, lanes, mask))
        elif isinstance(at, Line) and at.step == -1 and mask is None:
            forward = code.bind(load(self.buffer, at.base - (lanes - 1), lanes))
            return shuffle([forward], list(reversed(range(lanes))))
        return code.bind(gather(self.buffer, code.bind(vector(at, lanes)), mask))

    def _load_pairs(self, code: Code, at: Where, lanes: int, mask: Expr | None) -> Value:
        if isinstance(at, Line) and at.step == 1 and mask is None:
            first = code.bind(load(self.buffer, at.base * 2, lanes))
            second = code.bind(load(self.buffer, at.base * 2 + lanes, lanes))
            even = code.bind(shuffle([first, second], list(range(0, 2 * lanes, 2))))
            return even, code.bind(shuffle([first, second], list(range(1, 2 * lanes, 2))))
        real = multiply(at, Line.of(2), lanes)
        parts = (real, add(real, Line.of(1), lanes))
        return tuple(self._raw(code, p, lanes, mask) for p in parts)

    def store(self, code: Code, at: Where, value: Value, lanes: int, mask: Expr | None) -> None:
        """Writes a value of that many lanes."""
        if isinstance(value, tuple) and lanes > 1 and isinstance(at, Line) and at.step == 1 and mask is None:
            named = [code.bind(v) for v in value]
            both_parts = [n + k * lanes for n in range(lanes) for k in (0, 1)]
            for half in (0, 1):
                mixed = shuffle(named, both_parts[half * lanes : (half + 1) * lanes])
                store(code, self.buffer, at.base * 2 + half * lanes, code.bind(mixed))
        elif isinstance(value, tuple):
            real = multiply(at, Line.of(2), lanes)
            for part, place in zip(value, (real, add(real, Line.of(1), lanes)), strict=True):
                self._write(code, place, part, lanes, mask)
        else:
            self._write(code, at, to_memory(value, self.dtype, code.bind), lanes, mask)

    def _write(self, code: Code, at: Where, value: Expr, lanes: int, mask: Expr | None) -> None:
        if lanes == 1 or (isinstance(at, Line) and at.step == 1):
            assert isinstance(at, Line) or lanes == 1
            store(code, self.buffer, at.base if isinstance(at, Line) else at, value, mask)
        else:
            scatter_store(code, self.buffer, code.bind(vector(at, lanes)), code.bind(value), mask)


def tail_mask(active: int, lanes: int) -> Expr:
    """The first ``active`` of all lanes."""
    return tirx.LT(tirx.Ramp(tirx.const(0, INDEX), tirx.const(1, INDEX), lanes), literal(active, INDEX, lanes))


def both(a: Expr | None, b: Expr | None, wider: Callable[[Expr], Expr]) -> Expr | None:
    """The conjunction of two masks, either of which may be missing."""
    if a is None or b is None:
        return b if a is None else a
    return tirx.And(a, b) if lanes_of(a) == lanes_of(b) else tirx.And(wider(a), wider(b))


Operands = Mapping[str, Operand]
