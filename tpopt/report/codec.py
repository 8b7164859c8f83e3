"""Records (frozen dataclasses) to plain JSON values and back, by their type annotations.

An annotation is ``str``, ``int``, ``float``, ``bool``, a ``Literal`` of strings, another record, ``tuple[X, ...]``, or
``X | None``. There is nothing else in a report, and :mod:`tpopt.report.schema` reads the same annotations.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import sys
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tpopt.errors import CorruptFile

R = TypeVar("R")
_Encode = Callable[[Any], Any]
_Decode = Callable[[Any, str], Any]

_NAMES: Final[Mapping[type, str]] = {str: "text", bool: "true or false", int: "an integer", float: "a finite number"}


def encode_record(record: Any) -> dict[str, Any]:
    """Returns the fields of a record as a dict, in their order; numbers that are not finite become None."""
    encoded: dict[str, Any] = _encoder(type(record))(record)
    return encoded


def decode_record(kind: type[R], data: Any, where: str) -> R:
    """Returns the record that :func:`encode_record` made ``data`` from.

    Raises:
        CorruptFile: a key is missing or unknown, or a value is of another type; the message has the path to it, which
            starts with ``where``.
    """
    record: R = _decoder(kind)(data, where)
    return record


def optional(kind: Any) -> tuple[Any, bool]:
    """Splits ``X | None`` into ``(X, True)``; anything else is ``(kind, False)``."""
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    (inner,) = [part for part in get_args(kind) if part is not NoneType]
    return inner, True


def _encoder(kind: Any) -> _Encode:
    kind, _ = optional(kind)
    if get_origin(kind) is tuple:
        item = _encoder(get_args(kind)[0])
        return lambda values: [_or_none(item, value) for value in values]
    if dataclasses.is_dataclass(kind):
        parts = {name: _encoder(hint) for name, hint in get_type_hints(kind).items()}
        return lambda record: {name: _or_none(part, getattr(record, name)) for name, part in parts.items()}
    if kind is float:  # facts may arrive as numpy scalars
        return lambda value: float(value) if math.isfinite(value) else None
    if kind is int:
        return operator.index
    return bool if kind is bool else str


def _or_none(encode: _Encode, value: Any) -> Any:
    return None if value is None else encode(value)


def _decoder(kind: Any) -> _Decode:
    kind, nullable = optional(kind)
    decode = _composite(kind) or _scalar(kind, " or null" if nullable else "")
    if not nullable:
        return decode
    return lambda value, where: None if value is None else decode(value, where)


def _composite(kind: Any) -> _Decode | None:
    if get_origin(kind) is tuple:
        return _sequence(_decoder(get_args(kind)[0]))
    if get_origin(kind) is Literal:
        return _choice(get_args(kind))
    if dataclasses.is_dataclass(kind):
        return _record(kind, {name: _decoder(hint) for name, hint in get_type_hints(kind).items()})
    return None


def _sequence(item: _Decode) -> _Decode:
    def decode(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise CorruptFile(f"{where} is {_shown(value)}, expected a list")
        return tuple(item(v, f"{where}[{i}]") for i, v in enumerate(value))

    return decode


def _choice(choices: tuple[str, ...]) -> _Decode:
    def decode(value: Any, where: str) -> Any:
        if value not in choices:
            raise CorruptFile(f"{where} is {_shown(value)}, expected one of {', '.join(choices)}")
        return value

    return decode


def _record(kind: Any, parts: Mapping[str, _Decode]) -> _Decode:
    def decode(value: Any, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise CorruptFile(f"{where} is {_shown(value)}, expected an object")
        missing = [name for name in parts if name not in value]
        unknown = [str(name) for name in value if name not in parts]
        if missing:
            raise CorruptFile(f"{where} lacks {', '.join(missing)}")
        if unknown:
            raise CorruptFile(f"{where} has unknown keys: {', '.join(unknown)}")
        return kind(**{name: part(value[name], f"{where}.{name}") for name, part in parts.items()})

    return decode


def _scalar(kind: Any, or_null: str) -> _Decode:
    types = (int, float) if kind is float else (kind,)

    def decode(value: Any, where: str) -> Any:
        fits = isinstance(value, types) and (kind is bool or not isinstance(value, bool))
        if not fits or (kind is float and not abs(value) <= sys.float_info.max):
            raise CorruptFile(f"{where} is {_shown(value)}, expected {_NAMES[kind]}{or_null}")
        return kind(value)

    return decode


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
