"""The instructions of Intel's matrix unit (AMX): eight tiles of 16 rows of 64 bytes."""

from __future__ import annotations

from typing import Any, Final

from tvm import tirx

from tpopt.backend.tvm.code import INDEX, Code, Number, literal, store

TILES: Final = 8
ROW_BYTES: Final = 64
CONFIGURATION: Final = 64
"""Bytes of a configuration: palette at 0, two bytes of row length for each tile from 16 on, rows from 48 on."""


class TileUnit:
    """Configures the unit for as long as a block of code runs, and gives back what was configured before.

    Libraries look at the configuration that they left before they set theirs anew: what they find must be what it was.
    """

    def __init__(self, code: Code) -> None:
        self._code = code
        self._before = code.local("configured", CONFIGURATION, "uint8")

    def configure(self, rows: list[int]) -> None:
        """Tiles of so many rows of 64 bytes each."""
        code = self._code
        self._call("sttilecfg", address(self._before, 0))
        wanted = code.local("configuration", CONFIGURATION, "uint8")
        store(code, wanted, 0, literal(0, "uint8", CONFIGURATION))
        for place, value in ((0, 1), *((16 + 2 * n, ROW_BYTES) for n in range(TILES)), *enumerate(rows, 48)):
            store(code, wanted, place, tirx.const(value, "uint8"))
        self._call("ldtilecfg", address(wanted, 0))

    def restore(self) -> None:
        """The configuration that :meth:`configure` found."""
        self._call("ldtilecfg", address(self._before, 0))

    def zero(self, tile: int) -> None:
        """Clears a tile."""
        self._call("tilezero", _tile(tile))

    def load(self, tile: int, buffer: Any, at: Number, row_bytes: int) -> None:
        """Reads a tile whose rows lie ``row_bytes`` apart."""
        self._call("tileloadd64", _tile(tile), address(buffer, at), tirx.const(row_bytes, "int64"))

    def store(self, tile: int, buffer: Any, at: Number, row_bytes: int) -> None:
        """Writes a tile."""
        self._call("tilestored64", _tile(tile), address(buffer, at), tirx.const(row_bytes, "int64"))

    def multiply(self, into: int, left: int, right: int) -> None:
        """Adds the product of a tile of bf16 rows and one of pairs of rows to a tile of float32."""
        self._call("tdpbf16ps", _tile(into), _tile(left), _tile(right))

    def _call(self, name: str, *arguments: Any) -> None:
        self._code.emit(tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *arguments)))


def address(buffer: Any, at: Number) -> Any:
    """Where an element of a buffer lies."""
    return tirx.address_of(tirx.BufferLoad(buffer, [tirx.const(at, INDEX) if isinstance(at, int) else at]))


def _tile(number: int) -> Any:
    return tirx.const(number, "uint8")
