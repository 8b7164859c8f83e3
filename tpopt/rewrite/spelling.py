"""Passes as text, ``name{field=value,field=value},name``: the one parser for the command line, options and files.

A value is spelled as in Python (``8``, ``1e-6``, ``True``, ``None``, ``"text"``); ``true``, ``false`` and bare words
are understood too, and ``(a,b)`` is a tuple. Dashes and underscores in names are the same.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import types
import typing
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tpopt.errors import ParseError, UnknownName, UsageError
from tpopt.rewrite.passes import Pass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = {"true": True, "false": False, "none": None}
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Spelled:
    """One entry of a pipeline as written: a name, its options as text, and where it begins (from 0)."""

    name: str
    options: tuple[tuple[str, str], ...]
    start: int


def split(text: str) -> tuple[Spelled, ...]:
    """The entries of a pipeline's text; empty text has none. Raises :class:`ParseError` pointing at the character."""
    return tuple(_entry(text, start, end) for start, end in _pieces(text, 0, len(text)))


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans between the commas that no bracket or quote encloses."""
    if not text[start:end].strip():
        return
    closing: list[tuple[str, int]] = []
    quote, begin = "", start
    for position in range(start, end):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in _OPEN:
            closing.append((_CLOSE[_OPEN.index(character)], position))
        elif character in _CLOSE:
            if not closing or closing.pop()[0] != character:
                raise _error(text, position, f"{character!r} closes nothing")
        elif character == "," and not closing:
            yield begin, position
            begin = position + 1
    if quote or closing:
        raise _error(
            text,
            end if quote else closing[-1][1],
            f"{quote!r} is not closed" if quote else f"{closing[-1][0]!r} is missing",
        )
    yield begin, end


def _entry(text: str, start: int, end: int) -> Spelled:
    while start < end and text[start].isspace():
        start += 1
    found = _NAME.match(text, start, end)
    if found is None:
        raise _error(text, start, "expected the name of a pass")
    rest = text[found.end() : end].strip()
    if not rest:
        return Spelled(found.group(), (), start)
    if not (rest.startswith("{") and rest.endswith("}")):
        raise _error(text, found.end(), f"expected {{field=value,...}} or a comma after {found.group()}")
    first = text.index("{", found.end()) + 1
    last = text.rindex("}", first, end)
    return Spelled(found.group(), tuple(_option(text, a, b) for a, b in _pieces(text, first, last)), start)


def _option(text: str, start: int, end: int) -> tuple[str, str]:
    name, equals, value = text[start:end].partition("=")
    if not equals or not _NAME.fullmatch(name.strip()) or not value.strip():
        raise _error(text, start, f"expected field=value, got {text[start:end].strip()!r}")
    return name.strip().replace("-", "_"), value.strip()


def _error(text: str, position: int, message: str) -> ParseError:
    return ParseError(message, line=1, column=position + 1, text=text)


def construct(kind: type[Pass], options: tuple[tuple[str, str], ...]) -> Pass:
    """A pass with options given as text.

    Raises :class:`UnknownName` listing the fields, and :class:`UsageError` for a value of a wrong type.
    """
    annotations = typing.get_type_hints(kind)
    fields = {f.name: annotations[f.name] for f in dataclasses.fields(kind) if f.init}
    values: dict[str, Any] = {}
    for name, value in options:
        if name not in fields:
            raise UnknownName(f"option of pass {kind.name}", name, fields)
        if name in values:
            raise UsageError(f"pass {kind.name}: option {name} is given twice")
        values[name] = _value(kind, name, value, fields[name])
    return kind(**values)


def _value(kind: type[Pass], name: str, text: str, expected: Any) -> Any:
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # "1if" is a text, not Python
            value = _WORDS[text.lower()] if text.lower() in _WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if type(value) is int and float in _members(expected) and int not in _members(expected):
        value = float(value)
    if not _fits(value, expected):
        spelled = getattr(expected, "__name__", str(expected))
        raise UsageError(f"pass {kind.name}: {name}={text} is {type(value).__name__}, expected {spelled}")
    return value


def _members(expected: Any) -> tuple[Any, ...]:
    union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    return typing.get_args(expected) if union else (expected,)


def _fits(value: Any, expected: Any) -> bool:
    members = _members(expected)
    if len(members) > 1:
        return any(_fits(value, m) for m in members)
    origin = typing.get_origin(expected)
    if origin is typing.Literal:
        return value in typing.get_args(expected)
    if origin is tuple:
        element = typing.get_args(expected)[0]
        return isinstance(value, tuple) and all(_fits(v, element) for v in value)
    return type(value) is expected or (value is None and expected is type(None))


def spell(what: Pass) -> str:
    """The text of a pass, with the options that differ from their defaults; :func:`construct` reads it back."""
    given = [
        f"{f.name}={getattr(what, f.name)!r}"
        for f in dataclasses.fields(what)
        if f.default is dataclasses.MISSING or getattr(what, f.name) != f.default
    ]
    return f"{what.name}{{{','.join(given)}}}" if given else what.name
