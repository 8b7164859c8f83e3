"""Reads indices and guards, and holds the names in scope.

What is written is what is built: sums are put in canonical order, but divisions are not simplified and guards not
proved, so that text printed from a term always reads back to that term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tpopt.errors import InvalidProgram, ParseError
from tpopt.ir.index import FloorDiv, Index, Iter, Lookup, Mod, Size, Symbol, add, index, multiply, size
from tpopt.ir.lexer import Tokens
from tpopt.ir.terms import Bound, Guard, Scalar, Tensor

DEEPEST = 60
"""Nesting that the reader accepts, so that no text exhausts Python's stack."""
T = TypeVar("T")


@dataclass
class Scope:
    """Names that mean something where the reader stands."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    symbols: dict[str, Symbol] = field(default_factory=dict)
    iterators: dict[str, Iter] = field(default_factory=dict)
    lets: dict[str, Scalar] = field(default_factory=dict)


class IndexReader:
    """Reads indices, iterators and guards from a token cursor."""

    def __init__(self, tokens: Tokens, scope: Scope) -> None:
        self.tokens = tokens
        self.scope = scope
        self._depth = 0

    def index(self) -> Index:
        """``['-'] product {('+' | '-') product}``."""
        self.deeper()
        total = -self._product() if self.tokens.accept("-") else self._product()
        while self.tokens.text in ("+", "-"):
            negative = self.tokens.next() == "-"
            part = self._product()
            total = add(total, -part if negative else part)
        self.shallower()
        return total

    def size(self) -> Size:
        """An extent."""
        return size(self.index())

    def indices(self) -> tuple[Index, ...]:
        """``[`` indices ``]``."""
        return self.bracketed(self.index)

    def iterators(self) -> tuple[Iter, ...]:
        """``[name:extent, …]``; the caller puts them in scope."""
        return self.bracketed(self._iterator)

    def named_iterators(self) -> dict[str, Iter]:
        """``[name:extent, …]`` by name; ``other=name:extent`` is one that the text calls by another name."""
        return dict(self.bracketed(self._named_iterator))

    def _named_iterator(self) -> tuple[str, Iter]:
        alias = self.tokens.name("an iterator") if self.tokens.ahead()[1] == "=" else None
        if alias is not None:
            self.tokens.next()
        found = self._iterator()
        return alias or found.name, found

    def guard(self) -> Guard:
        """``low <= value < high & …``, or ``true``."""
        if self.tokens.accept("true"):
            return Guard(())
        bounds = [self._bound()]
        while self.tokens.accept("&"):
            bounds.append(self._bound())
        return Guard(tuple(bounds))

    def tensor(self) -> Tensor:
        """The tensor of that name."""
        at = self.tokens.position
        name = self.tokens.name("the name of a tensor")
        if name not in self.scope.tensors:
            raise self.tokens.unknown("tensor", name, self.scope.tensors, at)
        return self.scope.tensors[name]

    def listed(self, one: Callable[[], T], closing: str) -> tuple[T, ...]:
        """Items separated by commas up to ``closing``, which is consumed."""
        found: list[T] = []
        if self.tokens.accept(closing):
            return ()
        while True:
            found.append(one())
            if not self.tokens.accept(","):
                break
        self.tokens.expect(closing, "or ','")
        return tuple(found)

    def bracketed(self, one: Callable[[], T]) -> tuple[T, ...]:
        """``[`` items ``]``."""
        self.tokens.expect("[", "before a list")
        return self.listed(one, "]")

    def deeper(self) -> None:
        """Counts a level of nesting; :meth:`shallower` takes it back."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.tokens.error(f"nested deeper than {DEEPEST} levels; name the parts with 'let $0: type = …'")

    def shallower(self) -> None:
        """Leaves a level of nesting."""
        self._depth -= 1

    def located(self, at: int, build: Callable[[], T]) -> T:
        """Runs a constructor; what it refuses becomes a :class:`ParseError` at token ``at``."""
        try:
            return build()
        except ParseError:
            raise
        except (InvalidProgram, OverflowError) as error:
            raise self.tokens.error(str(error), at=at) from error

    def _iterator(self) -> Iter:
        at = self.tokens.position
        name = self.tokens.name("an iterator, 'name:extent'")
        self.tokens.expect(":", f"and an extent after iterator {name!r}")
        extent = self.size()
        return self.located(at, lambda: Iter(name, extent))

    def _bound(self) -> Bound:
        low = self.index()
        self.tokens.expect("<=", "in a guard 'low <= index < high'")
        value = self.index()
        self.tokens.expect("<", "in a guard 'low <= index < high'")
        return Bound(low, value, self.index())

    def _product(self) -> Index:
        left = self._factor()
        while self.tokens.text in ("*", "//", "%"):
            at, operator = self.tokens.position, self.tokens.next()
            right = self._factor()
            if operator == "*":
                left = multiply(left, right)
                continue
            known = right.constant
            if known is not None and known <= 0:
                raise self.tokens.error(f"division of an index by {known}: the denominator must be positive", at=at)
            left = index(FloorDiv(left, right) if operator == "//" else Mod(left, right))
        return left

    def _factor(self) -> Index:
        tokens = self.tokens
        if tokens.accept("("):
            inner = self.index()
            tokens.expect(")", "after an index")
            return inner
        if tokens.kind == "number":
            return index(tokens.integer("an integer"))
        if tokens.ahead()[1] == "[" and tokens.kind == "name":
            return index(self._lookup())
        at = tokens.position
        name = tokens.name("an index: an integer, an iterator, a symbol or a lookup")
        return index(self.variable(name, at))

    def variable(self, name: str, at: int) -> Iter | Symbol:
        """The iterator or symbol of that name."""
        found = self.scope.iterators.get(name) or self.scope.symbols.get(name)
        if found is None:
            valid: Mapping[str, object] = {**self.scope.symbols, **self.scope.iterators}
            raise self.tokens.unknown("iterator or symbol", name, valid, at)
        return found

    def _lookup(self) -> Lookup:
        at = self.tokens.position
        tensor, where = self.tensor(), self.indices()
        self.tokens.expect("{", "and the bounds of a lookup, '{low:high}'")
        low = self.index()
        self.tokens.expect(":", "between the bounds of a lookup")
        high = self.index()
        self.tokens.expect("}", "after the bounds of a lookup")
        return self.located(at, lambda: Lookup(tensor, where, low, high))


def by_name(values: Iterable[Tensor] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under their own names."""
    listed = values.values() if isinstance(values, Mapping) else values
    return {t.name: t for t in listed}
