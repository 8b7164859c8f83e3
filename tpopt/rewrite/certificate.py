"""A derivation as a document: the programs of a chain, from the one given to the one derived, with the laws between.

The document is data: programs are text, tables are numbers. Who checks it needs no law, only the programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from tpopt.errors import CorruptFile
from tpopt.ir.program import Array

FORMAT: Final = "tpopt-derivation"
VERSION: Final = 1
MOST_BYTES: Final = 64 << 20
"""Of a certificate's text that is read."""
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {"i64": "int64", "bool": "bool", "f32": "float32", "f64": "float64"}
)


@dataclass(frozen=True)
class Link:
    """One rewrite: the law's name, its label, what it did, and the program after it as text."""

    law: str
    numerics: str
    detail: str
    program: str


@dataclass(frozen=True)
class Certificate:
    """``original`` is claimed to compute the same as the program of every link.

    ``tables`` are the values that the claim rests on, by weight: index lists, and constants that a law looked at. All
    other weights may have any value.
    """

    region: str
    original: str
    links: tuple[Link, ...]
    tables: Mapping[str, Array]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "region": self.region,
            "original": self.original.splitlines(),
            "steps": [
                {"law": k.law, "numerics": k.numerics, "detail": k.detail, "program": k.program.splitlines()}
                for k in self.links
            ],
            "tables": {name: _packed(values) for name, values in self.tables.items()},
        }

    def dumps(self) -> str:
        """The document as text: the same for equal derivations."""
        return json.dumps(self.to_dict(), indent=1)

    @staticmethod
    def loads(text: str) -> Certificate:
        """Reads a document. Raises :class:`CorruptFile` for anything else, naming the key at fault."""
        if len(text) > MOST_BYTES:
            raise CorruptFile(f"a certificate of {len(text)} characters; at most {MOST_BYTES} are read")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorruptFile(f"no JSON: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise CorruptFile(f"format: expected {FORMAT!r}")
        if data.get("version") != VERSION:
            raise CorruptFile(f"version: expected {VERSION}, the file has {data.get('version')!r}")
        links = tuple(_link(n, step) for n, step in enumerate(_of(data, "steps", list)))
        if not links:
            raise CorruptFile("steps: a derivation has at least one")
        tables = {str(name): _unpacked(name, row) for name, row in _of(data, "tables", dict).items()}
        return Certificate(_of(data, "region", str), _lines(data, "original"), links, tables)


def _of(data: Mapping[str, Any], key: str, kind: type) -> Any:
    value = data.get(key)
    if not isinstance(value, kind):
        raise CorruptFile(f"{key}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _lines(data: Mapping[str, Any], key: str) -> str:
    lines = _of(data, key, list)
    if not all(isinstance(line, str) for line in lines):
        raise CorruptFile(f"{key}: expected lines of text")
    return "\n".join(lines)


def _link(number: int, step: Any) -> Link:
    if not isinstance(step, dict):
        raise CorruptFile(f"steps.{number}: expected an object")
    law, numerics, detail = (_of(step, key, str) for key in ("law", "numerics", "detail"))
    return Link(law, numerics, detail, _lines(step, "program"))


def _packed(values: Array) -> dict[str, Any]:
    dtype = next(name for name, kind in _TYPES.items() if np.dtype(kind) == values.dtype)
    flat = values.ravel()
    listed = [float(v).hex() for v in flat] if dtype.startswith("f") else [int(v) for v in flat]
    return {"dtype": dtype, "shape": list(values.shape), "values": listed}


def _unpacked(name: str, row: Any) -> Array:
    try:
        kind, shape, values = _TYPES[row["dtype"]], [int(e) for e in row["shape"]], row["values"]
        numbers = [float.fromhex(v) for v in values] if kind.startswith("float") else [int(v) for v in values]
        return np.array(numbers, np.dtype(kind)).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CorruptFile(f"tables.{name}: {error}") from None
