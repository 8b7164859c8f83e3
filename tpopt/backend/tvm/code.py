"""Statements of a kernel, written down in order: names for values, loops, vector loads and stores.

Everything is explicit: a vector value has its lanes in its type, a memory access that may leave a tensor carries a
mask. What remains for TVM is to turn the statements into machine code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from tvm import tirx

Expr: TypeAlias = Any
Number: TypeAlias = Any
"""A Python int where the value is known, else a scalar expression of type int32."""

INDEX = "int32"


def lanes_of(value: Expr) -> int:
    """Lanes of an expression; 1 for a scalar and for a Python int."""
    return 1 if isinstance(value, int) else int(value.ty.dtype.lanes)


def element_of(value: Expr) -> str:
    """The element type of an expression, without lanes."""
    return str(value.ty.dtype.with_lanes(1))


def vector_type(element: str, lanes: int) -> str:
    """``float32x16`` for 16 lanes; the element's own name for one."""
    return element if lanes == 1 else f"{element}x{lanes}"


def splat(value: Expr, lanes: int) -> Expr:
    """A scalar in all lanes; a vector stays as it is."""
    if isinstance(value, int):
        value = tirx.const(value, INDEX)
    return tirx.Broadcast(value, lanes) if lanes > 1 and lanes_of(value) == 1 else value


def literal(value: complex, element: str, lanes: int = 1) -> Expr:
    """A constant of a type."""
    return splat(tirx.const(value, element), lanes)


def scalar(value: Number) -> Expr:
    """An index as an expression."""
    return tirx.const(value, INDEX) if isinstance(value, int) else value


def differ(a: Expr, b: Expr) -> Expr:
    """Where two values are not equal, NaN being equal to nothing: TVM's own ``!=`` of floats is false for NaN."""
    return tirx.Not(tirx.EQ(a, b))


def minimum(a: Number, b: Number) -> Number:
    """The smaller of two indices, folded where both are known."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.Min(scalar(a), scalar(b))


def maximum(a: Number, b: Number) -> Number:
    """The larger of two indices, folded where both are known."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tirx.Max(scalar(a), scalar(b))


class Code:
    """Collects the statements of one function."""

    def __init__(self) -> None:
        self._blocks: list[list[Any]] = [[]]
        self._names = 0
        self._slots: set[Any] = set()

    def emit(self, statement: Any) -> None:
        """Appends a statement."""
        self._blocks[-1].append(statement)

    def name(self, base: str) -> str:
        """A fresh name."""
        self._names += 1
        return f"{base}{self._names}"

    def bind(self, value: Expr) -> Expr:
        """Gives a value a name, so that using it twice does not compute it twice."""
        if isinstance(value, (int, tirx.Var)) or value in self._slots or is_literal(value):
            return value
        element, lanes = element_of(value), lanes_of(value)
        if element == "bool":  # TVM's analysis of integer ranges fails on vectors of bool: they travel as floats
            kind = "float32"
            value = tirx.Select(value, literal(1.0, kind, lanes), literal(0.0, kind, lanes))
            mask = tirx.NE(self._bound(value), literal(0.0, kind, lanes))
            self._slots.add(mask)
            return mask
        return self._bound(value)

    def _bound(self, value: Expr) -> Expr:
        element, lanes = element_of(value), lanes_of(value)
        if element.startswith("float"):
            # a name would be put in for its value wherever TVM looks at what follows: seconds for a long polynomial.
            # Memory at a known place is a register to LLVM, and nothing to look into for TVM.
            slot = self.local("s", lanes, element)
            at = tirx.const(0, INDEX) if lanes == 1 else tirx.Ramp(tirx.const(0, INDEX), tirx.const(1, INDEX), lanes)
            self.emit(tirx.BufferStore(slot, value, [at]))
            loaded = tirx.BufferLoad(slot, [at])
            self._slots.add(loaded)
            return loaded
        var = tirx.Var(self.name("v"), vector_type(element, lanes))
        self.emit(tirx.Bind(var, value))
        return var

    @contextmanager
    def loop(
        self, base: str, extent: Number, *, parallel: bool = False, unrolled: bool = False, step: int = 1
    ) -> Iterator[Number]:
        """A loop from 0; its variable is the Python int 0 where it is known to run once."""
        if isinstance(extent, int) and extent == 1:
            yield 0
            return
        var = tirx.Var(self.name(base), INDEX)
        self._blocks.append([])
        yield var if step == 1 else var * tirx.const(step, INDEX)
        body = sequence(self._blocks.pop())
        kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.UNROLLED if unrolled else tirx.ForKind.SERIAL
        self.emit(tirx.For(var, tirx.const(0, INDEX), scalar(extent), kind, body))

    def local(self, base: str, elements: int, element: str) -> Any:
        """Memory on the stack; accesses at known places become registers."""
        buffer = tirx.decl_buffer((elements,), element, name=self.name(base), scope="local", layout=None)
        self.emit(tirx.AllocBuffer(buffer, annotations={"disable_lower_builtin": tirx.const(True, "bool")}))
        return buffer

    def shared(self, base: str, elements: int, element: str) -> Any:
        """Memory of the threads of one block."""
        buffer = tirx.decl_buffer((elements,), element, name=self.name(base), scope="shared", layout=None)
        self.emit(tirx.AllocBuffer(buffer))
        return buffer

    def workspace(self, base: str, elements: int, element: str) -> Any:
        """Memory for as long as the function runs, taken from what the launcher keeps."""
        buffer = tirx.decl_buffer((elements,), element, name=self.name(base), scope="global", layout=None)
        self.emit(tirx.AllocBuffer(buffer))
        return buffer

    @contextmanager
    def branch(self, condition: Expr) -> Iterator[None]:
        """Statements that run where a condition holds."""
        self._blocks.append([])
        yield
        self.emit(tirx.IfThenElse(condition, sequence(self._blocks.pop()), None))

    def result(self) -> Any:
        """Everything as one statement."""
        (block,) = self._blocks
        return sequence(block)


def sequence(statements: Sequence[Any]) -> Any:
    """Statements one after the other, as one."""
    if not statements:
        return tirx.Evaluate(tirx.const(0, INDEX))
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def load(buffer: Any, offset: Number, lanes: int, mask: Expr | None = None) -> Expr:
    """``lanes`` neighbours from ``offset`` on; where a mask is off, nothing is read and the value is zero."""
    if lanes == 1:
        at = scalar(offset) if mask is None else tirx.Select(mask, scalar(offset), tirx.const(0, INDEX))
        return tirx.BufferLoad(buffer, [at])
    if mask is None:
        return tirx.BufferLoad(buffer, [tirx.Ramp(scalar(offset), tirx.const(1, INDEX), lanes)])
    element = element_of(tirx.BufferLoad(buffer, [tirx.const(0, INDEX)]))
    place = tirx.address_of(tirx.BufferLoad(buffer, [scalar(offset)]))
    nothing = literal(0, element, lanes)
    return tirx.call_llvm_pure_intrin(
        vector_type(element, lanes), "llvm.masked.load", place, splat(mask, lanes), nothing
    )


def prefetch(code: Code, buffer: Any, offset: Number) -> None:
    """Asks for the cache line of an element, which may lie beyond the buffer's end: nothing is read."""
    place = tirx.address_of(tirx.BufferLoad(buffer, [scalar(offset)]))
    read, second_cache, data = (tirx.const(n, "int32") for n in (0, 2, 1))
    code.emit(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", place, read, second_cache, data)))


def gather(buffer: Any, offsets: Expr, mask: Expr | None = None) -> Expr:
    """Elements at a vector of offsets; where a mask is off, the element at 0 is read in its place."""
    if mask is not None:
        lanes = lanes_of(offsets)
        offsets = tirx.Select(splat(mask, lanes), offsets, literal(0, INDEX, lanes))
    return tirx.BufferLoad(buffer, [offsets])


def is_literal(value: Expr) -> bool:
    """Whether a value is a number, or one in all lanes."""
    return type(value.value if isinstance(value, tirx.Broadcast) else value).__name__ in ("IntImm", "FloatImm")


def is_zero(value: Expr) -> bool:
    """Whether a value is the number 0, or that in all lanes."""
    return is_literal(value) and float((value.value if isinstance(value, tirx.Broadcast) else value).value) == 0.0


def store(code: Code, buffer: Any, offset: Number, value: Expr, mask: Expr | None = None) -> None:
    """Writes neighbours from ``offset`` on."""
    lanes = lanes_of(value)
    if lanes == 1:
        statement = tirx.BufferStore(buffer, value, [scalar(offset)])
        code.emit(statement if mask is None else tirx.IfThenElse(mask, statement, None))
        return
    if mask is None or lanes_of(mask) == 1:
        plain = tirx.BufferStore(buffer, value, [tirx.Ramp(scalar(offset), tirx.const(1, INDEX), lanes)])
        code.emit(plain if mask is None else tirx.IfThenElse(mask, plain, None))
        return
    place = tirx.address_of(tirx.BufferLoad(buffer, [scalar(offset)]))
    code.emit(tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.masked.store", value, place, splat(mask, lanes))))


def scatter_store(code: Code, buffer: Any, offsets: Expr, value: Expr, mask: Expr | None = None) -> None:
    """Writes the lanes of a value at a vector of offsets, one after the other."""
    lanes = lanes_of(value)
    for lane in range(lanes):
        at, one = extract(offsets, lane), extract(value, lane)
        store(code, buffer, at, one, None if mask is None else extract(splat(mask, lanes), lane))


def extract(vector: Expr, lane: int) -> Expr:
    """One lane of a vector (a scalar is its own lane)."""
    if lanes_of(vector) == 1:
        return scalar(vector)
    return tirx.Shuffle([vector], [lane])


def halves(vector: Expr) -> tuple[Expr, Expr]:
    """The lower and the upper half of a vector's lanes."""
    lanes = lanes_of(vector)
    lower, upper = list(range(lanes // 2)), list(range(lanes // 2, lanes))
    return shuffle([vector], lower), shuffle([vector], upper)


def shuffle(vectors: Sequence[Expr], lanes: Sequence[int]) -> Expr:
    """Lanes picked from vectors put side by side."""
    return tirx.Shuffle(list(vectors), list(lanes))
