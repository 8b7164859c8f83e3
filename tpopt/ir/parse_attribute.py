"""Reads attributes of stages, structures and declarations of tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from tpopt.ir.parse_term import CONSTANTS, DTYPES, TermReader
from tpopt.ir.stages import Attribute
from tpopt.ir.structure import DENSE, KINDS, Parameter, Structure
from tpopt.ir.terms import Tensor

T = TypeVar("T")


class AttributeReader(TermReader):
    """Reads what stands in the parentheses of a stage, and tensor declarations."""

    def declaration(self) -> Tensor:
        """``name: dtype[shape]`` with an optional layout and structure."""
        at = self.tokens.position
        name = self.tokens.name("the name of a tensor")
        self.tokens.expect(":", f"and a type after tensor {name!r}")
        dtype = self.dtype()
        shape = self.bracketed(self.size)
        layout, structure = "", DENSE
        if self.tokens.text == "layout" and self.tokens.ahead()[0] == "string":
            self.tokens.next()
            layout = self.string("a layout")
        if self.tokens.text == "structure" and self.tokens.ahead()[0] == "name":
            self.tokens.next()
            structure = self.structure()
        return self.located(at, lambda: Tensor(name, shape, dtype, layout, structure))

    def structure(self) -> Structure:
        """``kind`` or ``kind(parameters)``."""
        at, kind = self.tokens.position, self.tokens.text
        if kind not in KINDS:
            raise self.tokens.unknown("structure", kind, KINDS, at)
        self.tokens.next()
        self.deeper()
        parameters = self.listed(self._parameter, ")") if self.tokens.accept("(") else ()
        self.shallower()
        return Structure(kind, parameters)

    def string(self, what: str) -> str:
        """A string in double quotes."""
        if self.tokens.kind != "string":
            raise self.tokens.expected(what)
        try:
            text: str = json.loads(self.tokens.text)
        except ValueError as error:
            raise self.tokens.error("this string has a bad escape") from error
        self.tokens.next()
        return text

    def attribute(self) -> Attribute:
        """A value: none, a literal, a string, an element type, ``@(index)``, a tensor, or a tuple of these."""
        tokens = self.tokens
        if tokens.accept("none"):
            return None
        if tokens.text in DTYPES:
            return DTYPES[tokens.next()]
        if tokens.accept("@"):
            tokens.expect("(", "after '@'")
            where = self.index()
            tokens.expect(")", "after an index")
            return where
        if tokens.kind == "name" and tokens.text not in CONSTANTS:
            return self.tensor()
        return self._plain(self.attribute)

    def named(self) -> tuple[str, Attribute] | None:
        """``name=value``, or ``None`` (nothing consumed) when something else follows."""
        if self.tokens.kind != "name" or self.tokens.ahead()[1] != "=":
            return None
        name = self.tokens.name("the name of an argument")
        self.tokens.next()
        return name, self.attribute()

    def options(self, closing: str, defaults: dict[str, Attribute]) -> dict[str, Attribute]:
        """``, name=value …`` up to ``closing``; every name is one of ``defaults``, whose types the values have."""
        values = dict(defaults)
        while self.tokens.accept(","):
            at = self.tokens.position
            pair = self.named()
            if pair is None:
                raise self.tokens.expected(f"name=value ({', '.join(defaults)})")
            if pair[0] not in defaults:
                raise self.tokens.unknown("argument", pair[0], defaults, at)
            if type(pair[1]) is not type(defaults[pair[0]]):
                wanted = type(defaults[pair[0]]).__name__
                raise self.tokens.error(f"argument {pair[0]}: expected {wanted}, got {type(pair[1]).__name__}", at=at)
            values[pair[0]] = pair[1]
        self.tokens.expect(closing, "or ','")
        return values

    def _parameter(self) -> Parameter:
        if self.tokens.kind == "name" and self.tokens.text not in CONSTANTS:
            return self.structure()
        at, found = self.tokens.position, self._plain(self._parameter)
        if isinstance(found, complex):
            raise self.tokens.error("a structure has no complex parameters", at=at)
        return found

    def _plain(self, nested: Callable[[], T]) -> int | float | complex | str | tuple[T, ...]:
        """A number, a bool, a string, or a tuple of what ``nested`` reads."""
        tokens = self.tokens
        if tokens.kind == "string":
            return self.string("a string")
        negative = tokens.accept("-")
        if tokens.kind == "number" and tokens.text.isdigit():
            return -int(tokens.next()) if negative else int(tokens.next())
        if tokens.kind == "number" or tokens.text in ("inf", "nan"):
            return -float(tokens.next()) if negative else float(tokens.next())
        if tokens.text in CONSTANTS and not negative:
            return CONSTANTS[tokens.next()]
        if tokens.text != "(" or negative:
            raise tokens.expected("a value")
        known = self.complex_literal()
        return self._tuple(nested) if known is None else known

    def _tuple(self, nested: Callable[[], T]) -> tuple[T, ...]:
        """``()``, ``(a,)`` or ``(a, b)``."""
        tokens = self.tokens
        tokens.next()
        self.deeper()
        found: list[T] = []
        while tokens.text != ")":
            found.append(nested())
            if not tokens.accept(","):
                break
        tokens.expect(")", "or ','")
        self.shallower()
        return tuple(found)
