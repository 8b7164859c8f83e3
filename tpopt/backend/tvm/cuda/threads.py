"""Threads of a block in generated code: who one is, waiting for the others, handing them values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tvm import tirx
from tvm.ir import Range

from tpopt.backend.cuda.device import WARP
from tpopt.backend.tvm.code import INDEX, Code, Expr, Number, element_of, literal, load, scalar, store
from tpopt.backend.tvm.joined import split

_EVERY_LANE: Final = 0xFFFFFFFF


class Threads:
    """The threads of one kernel's blocks."""

    def __init__(self, code: Code, threads: int, blocks: int) -> None:
        self.code = code
        self.count = threads
        self._axes = [_axis("blockIdx.x", blocks), _axis("threadIdx.x", threads)]
        self.block: Number = self._axes[0].var if blocks > 1 else 0
        self.thread: Expr = self._axes[1].var

    def around(self, body: Any) -> Any:
        """A body as what every thread of every block runs."""
        for axis in reversed(self._axes):
            body = tirx.AttrStmt(axis, "thread_extent", axis.dom.extent, body)
        return body

    def split(self, size: int) -> tuple[Number, Number]:
        """Which group of ``size`` neighbouring threads (a power of two) a thread is in, and where in it."""
        return (0, self.thread) if size == self.count else split(self.code, self.thread, size)

    def wait(self, size: int) -> None:
        """Waits for the others in a group of ``size`` neighbouring threads: what they wrote can be read."""
        if size > WARP:
            self.code.emit(tirx.Evaluate(tirx.call_extern("int32", "__syncthreads")))
        elif size > 1:
            self.code.emit(tirx.Evaluate(tirx.call_extern("int32", "__syncwarp")))

    def exchanged(self, value: Expr, distance: int) -> Expr:
        """The value of the thread whose number differs by ``distance`` (a power of two) within a warp."""
        return self._shuffled("__shfl_xor_sync", value, distance, WARP)

    def first(self, value: Expr, size: int) -> Expr:
        """The value of the first thread in each group of ``size`` within a warp."""
        return self._shuffled("__shfl_sync", value, 0, size)

    def _shuffled(self, name: str, value: Expr, at: int, size: int) -> Expr:
        """Every type but these two is a register for the hardware: bool travels as an int."""
        code, element = self.code, element_of(value)
        every = tirx.const(_EVERY_LANE, "uint32")
        given = tirx.Select(value, literal(1, "int32"), literal(0, "int32")) if element == "bool" else value
        kind = element if element in ("float32", "float64", "int64") else "int32"
        given = code.bind(given if element_of(given) == kind else tirx.Cast(kind, given))
        found = code.bind(tirx.call_extern(kind, name, every, given, scalar(at), scalar(size)))
        if element == "bool":
            return code.bind(tirx.NE(found, literal(0, "int32")))
        return found if kind == element else code.bind(tirx.Cast(element, found))

    def from_warps(self, parts: Sequence[Expr]) -> list[list[Expr]]:
        """Values that are equal within each warp, from every warp of the block."""
        code, warps = self.code, self.count // WARP
        warp, lane = self.split(WARP)
        held = []
        for part in parts:
            element = "int8" if element_of(part) == "bool" else element_of(part)
            memory = code.shared("parts", warps, element)
            value = tirx.Select(part, literal(1, "int8"), literal(0, "int8")) if element_of(part) == "bool" else part
            store(code, memory, warp, value, tirx.EQ(scalar(lane), scalar(0)))
            held.append(memory)
        self.wait(self.count)
        found = []
        for number in range(warps):
            values = [code.bind(load(m, number, 1)) for m in held]
            pairs = zip(values, parts, strict=True)
            found.append([tirx.NE(v, literal(0, "int8")) if element_of(p) == "bool" else v for v, p in pairs])
        self.wait(self.count)
        return found


def _axis(tag: str, extent: int) -> Any:
    return tirx.IterVar(Range(0, extent), tirx.Var(tag.replace(".", "_"), INDEX), tirx.IterVar.ThreadIndex, tag)
