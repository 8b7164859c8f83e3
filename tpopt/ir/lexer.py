"""Tokens of program text, with positions for errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from tpopt.errors import ParseError
from tpopt.ir.names import unquoted

_FLOAT = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n]+|\#[^\n]*)
       | (?P<imaginary>(?:{_FLOAT}|inf|nan)j(?![A-Za-z0-9_.]))
       | (?P<number>{_FLOAT}(?![A-Za-z_]))
       | (?P<name>[A-Za-z_][A-Za-z0-9_.]*|`[^`\n]+`)
       | (?P<string>"(?:[^"\\\n]|\\.)*")
       | (?P<let>\$\d+)
       | (?P<mark>->|<=|>=|==|!=|//|[-+*/%<>=(){{}}\[\],:&@.])""",
    re.VERBOSE,
)
_DIGITS = 400
_SHOWN = 40
"""At most this many valid names are listed in an error."""


class Tokens:
    """A cursor over the tokens of a text. ``kind`` and ``text`` describe the current one; the last is ``end``."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(source):
            match = _TOKEN.match(source, at)
            if match is None:
                raise self.error(f"unexpected character {source[at]!r}", offset=at)
            kind = match.lastgroup or ""
            if kind in ("number", "imaginary") and match.end() - at > _DIGITS:
                raise self.error(f"a number of more than {_DIGITS} characters", offset=at)
            if kind != "space":
                self._tokens.append((kind, match.group(), at))
            at = match.end()
        self._tokens.append(("end", "", len(source)))
        self.position = 0

    @property
    def kind(self) -> str:
        """``name``, ``number``, ``imaginary``, ``string``, ``let``, ``mark`` or ``end``."""
        return self._tokens[self.position][0]

    @property
    def text(self) -> str:
        """The current token as written."""
        return self._tokens[self.position][1]

    def ahead(self, count: int = 1) -> tuple[str, str]:
        """Kind and text of a later token."""
        kind, text, _ = self._tokens[min(self.position + count, len(self._tokens) - 1)]
        return kind, text

    def next(self) -> str:
        """Consumes the current token and returns its text."""
        text = self.text
        if self.kind != "end":
            self.position += 1
        return text

    def accept(self, text: str) -> bool:
        """Consumes the current token if it is ``text``."""
        if self.text != text:
            return False
        self.position += 1
        return True

    def expect(self, text: str, where: str) -> None:
        """Consumes ``text``. Raises :class:`ParseError` for anything else."""
        if not self.accept(text):
            raise self.expected(f"{text!r} {where}")

    def name(self, what: str) -> str:
        """Consumes a name; ``what`` says whose, for the error."""
        if self.kind != "name":
            raise self.expected(what)
        try:
            return unquoted(self.next())
        except ValueError as error:
            raise self.error("a quoted name has a bad escape", at=self.position - 1) from error

    def integer(self, what: str) -> int:
        """Consumes an integer, with its sign."""
        negative = self.accept("-")
        if self.kind != "number" or not self.text.isdigit():
            raise self.expected(what)
        return -int(self.next()) if negative else int(self.next())

    def expected(self, what: str) -> ParseError:
        """The error that ``what`` should have stood here."""
        return self.error(f"expected {what}, found {repr(self.text) if self.text else 'the end'}")

    def unknown(self, what: str, name: str, valid: Iterable[str], at: int) -> ParseError:
        """The error that ``name`` does not exist, with those that do."""
        names = sorted(valid)
        nearest = difflib.get_close_matches(name, names, n=1)
        more = f", … ({len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
        hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
        listing = ", ".join(names[:_SHOWN]) or "(none)"
        return self.error(f"unknown {what} {name!r}{hint} Valid names: {listing}{more}", at=at)

    def error(self, message: str, *, at: int | None = None, offset: int | None = None) -> ParseError:
        """A :class:`ParseError` at a token (the current one by default) or at a character."""
        if offset is None:
            offset = self._tokens[self.position if at is None else at][2]
        line = self.source.count("\n", 0, offset) + 1
        column = offset - (self.source.rfind("\n", 0, offset) + 1) + 1
        return ParseError(message, line=line, column=column, text=self.source)
