"""Reads scalar terms.

A literal takes its type from the operands beside it or from the declared result, so a term made of bare literals
stays :class:`Untyped` until somebody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tpopt.ir.dtypes import DType
from tpopt.ir.functions import FUNCTIONS, MONOIDS
from tpopt.ir.index import Iter, index
from tpopt.ir.parse_index import IndexReader
from tpopt.ir.term_text import COMPARISON, INFIX, LEVEL, UNARY
from tpopt.ir.terms import Apply, Cast, Const, Number, Position, Read, Reduce, Scalar, Select, const

DTYPES = {d.value: d for d in DType}
OPERATORS = {symbol: (name, LEVEL.get(name, COMPARISON)) for name, symbol in INFIX.items()}
CONSTANTS: dict[str, float | bool] = {"inf": float("inf"), "nan": float("nan"), "true": True, "false": False}


@dataclass(frozen=True)
class Untyped:
    """A term of literals alone: ``build(dtype)`` makes it; ``at`` is its first token."""

    build: Callable[[DType], Scalar]
    at: int


Operand: TypeAlias = Scalar | Untyped


class TermReader(IndexReader):
    """Reads scalar terms, and the ``let`` parts before them."""

    def term(self, dtype: DType | None = None) -> Scalar:
        """A term; ``dtype`` is the declared type, if any."""
        at = self.tokens.position
        found = self._binary(COMPARISON)
        if dtype is None or isinstance(found, Untyped):
            return self._typed(found, dtype)
        if found.dtype is not dtype:
            raise self.tokens.error(f"this term is {found.dtype}, declared {dtype}; insert a cast: {dtype}(…)", at=at)
        return found

    def lets(self) -> None:
        """``let $0[k:5]: f32 = term in`` parts; the iterators in brackets are bound where the part is used."""
        while self.tokens.text == "let" and self.tokens.ahead()[0] == "let":
            self.tokens.next()
            name = self.tokens.next()
            iterators = self.iterators() if self.tokens.text == "[" else ()
            self.tokens.expect(":", f"and a type after {name}")
            dtype = self.dtype()
            self.tokens.expect("=", f"after the type of {name}")
            outer = self._bind(iterators)
            self.scope.lets[name] = self.term(dtype)
            self.scope.iterators = outer
            self.tokens.expect("in", f"after the term that {name} stands for, or an operator")

    def dtype(self) -> DType:
        """The name of an element type."""
        if self.tokens.text not in DTYPES:
            if self.tokens.kind != "name":
                raise self.tokens.expected(f"an element type ({', '.join(DTYPES)})")
            raise self.tokens.unknown("element type", self.tokens.text, DTYPES, self.tokens.position)
        return DTYPES[self.tokens.next()]

    def _bind(self, iterators: tuple[Iter, ...]) -> dict[str, Iter]:
        """Puts iterators in scope; returns the scope's iterators as they were, for the caller to restore."""
        outer = self.scope.iterators
        self.scope.iterators = {**outer, **{i.name: i for i in iterators}}
        return outer

    def _binary(self, least: int) -> Operand:
        """Operands joined by operators of at least the given level; chains of ``+`` or ``*`` are one function."""
        self.deeper()
        left = self._unary()
        chain: tuple[str, list[Operand], int] | None = None
        while self.tokens.text in OPERATORS and OPERATORS[self.tokens.text][1] >= least:
            at = self.tokens.position
            name, level = OPERATORS[self.tokens.next()]
            if level == COMPARISON and chain and LEVEL.get(chain[0], COMPARISON) == COMPARISON:
                raise self.tokens.error("comparisons do not chain; use and(a < b, b < c)", at=at)
            right = self._binary(level + 1)
            if chain and chain[0] == name and FUNCTIONS[name].arity < 0:
                chain[1].append(right)
                continue
            chain = (name, [self._joined(*chain) if chain else left, right], at)
        self.shallower()
        return self._joined(*chain) if chain else left

    def _unary(self) -> Operand:
        tokens = self.tokens
        if tokens.text != "-":
            return self._atom()
        at = tokens.position
        tokens.next()
        if tokens.kind == "number" or tokens.text in ("inf", "nan"):
            return self._literal(-float(tokens.next()) if not tokens.text.isdigit() else -int(tokens.next()), at)
        self.deeper()
        operand = self._binary(UNARY)
        self.shallower()
        return self._joined("neg", [operand], at)

    def _atom(self) -> Operand:
        tokens, at = self.tokens, self.tokens.position
        if tokens.kind == "number":
            return self._literal(int(tokens.next()) if tokens.text.isdigit() else float(tokens.next()), at)
        if tokens.kind == "let":
            return self._let()
        if tokens.accept("@"):
            tokens.expect("(", "after '@'")
            where = self.index()
            tokens.expect(")", "after an index")
            return Position(where)
        if tokens.text == "(":
            value = self.complex_literal()
            if value is not None:
                return self._literal(value, at)
            tokens.next()
            inner = self._binary(COMPARISON)
            tokens.expect(")", "or an operator")
            return inner
        if tokens.kind == "name":
            return self._named(at)
        raise tokens.expected("a term")

    def _named(self, at: int) -> Operand:
        tokens = self.tokens
        following = tokens.ahead()[1]
        if following == "(":
            return self._call(at)
        if following == "[":
            return self._reduce(at) if tokens.text in MONOIDS else self._read(at)
        if tokens.text in CONSTANTS:
            return self._literal(CONSTANTS[tokens.next()], at)
        name = tokens.name("a term")
        return Position(index(self.variable(name, at)))

    def _let(self) -> Scalar:
        at, name = self.tokens.position, self.tokens.next()
        if name not in self.scope.lets:
            raise self.tokens.unknown("part", name, self.scope.lets, at)
        return self.scope.lets[name]

    def _read(self, at: int) -> Scalar:
        tensor, where = self.tensor(), self.indices()
        return self.located(at, lambda: Read(tensor, where))

    def _call(self, at: int) -> Operand:
        name = self.tokens.next()
        self.tokens.expect("(", f"after {name}")
        if name in DTYPES:
            operand = self._typed(self._binary(COMPARISON), None)
            self.tokens.expect(")", "or an operator")
            return Cast(DTYPES[name], operand)
        if name == "select":
            return self._select(at)
        if name not in FUNCTIONS:
            raise self.tokens.unknown("function", name, (*FUNCTIONS, *DTYPES, "select"), at)
        return self._joined(name, list(self.listed(lambda: self._binary(COMPARISON), ")")), at)

    def _select(self, at: int) -> Operand:
        guard = self.guard()
        self.tokens.expect(",", "after the guard of select")
        inside = self._binary(COMPARISON)
        self.tokens.expect(",", "after the first branch of select")
        outside = self._binary(COMPARISON)
        self.tokens.expect(")", "after the second branch of select")
        return self._together([inside, outside], at, lambda terms: Select(guard, *terms))

    def _reduce(self, at: int) -> Operand:
        tokens = self.tokens
        name = tokens.next()
        iterators = self.iterators()
        pick = tokens.integer("the number of a component") if tokens.accept(".") else 0
        tokens.expect("{", f"before what {name} reduces")
        outer = self._bind(iterators)
        bodies = self.listed(lambda: self._binary(COMPARISON), "}")
        self.scope.iterators = outer

        def build(dtype: DType | None) -> Scalar:
            terms = tuple(self._typed(b, dtype if n == pick else None) for n, b in enumerate(bodies))
            return self.located(at, lambda: Reduce(name, iterators, terms, pick))

        if 0 <= pick < len(bodies) and isinstance(bodies[pick], Untyped):
            return Untyped(build, at)
        return build(None)

    def _joined(self, name: str, args: list[Operand], at: int) -> Operand:
        """``Apply``, with literals typed by the arguments beside them."""
        result = FUNCTIONS[name].result
        condition = [self._typed(args[0], DType.BOOL)] if name == "where" and args else []

        def make(terms: list[Scalar]) -> Scalar:
            return Apply(name, (*condition, *terms))

        joined = self._together(args[len(condition) :], at, make)
        if not isinstance(joined, Untyped) or result == "same":
            return joined
        if result == "complex":
            build = joined.build
            return Untyped(lambda d: build(d.real), at)
        return self._typed(joined, None)

    def _together(self, parts: list[Operand], at: int, make: Callable[[list[Scalar]], Scalar]) -> Operand:
        """Builds a term whose operands have one type; untyped when none of them tells it."""

        def build(dtype: DType) -> Scalar:
            terms = [self._typed(p, dtype) for p in parts]
            return self.located(at, lambda: make(terms))

        known = next((p.dtype for p in parts if not isinstance(p, Untyped)), None)
        if known is None and parts:
            return Untyped(build, at)
        return build(known or DType.F32)

    def _typed(self, found: Operand, dtype: DType | None) -> Scalar:
        if not isinstance(found, Untyped):
            return found
        if dtype is None:
            raise self.tokens.error("nothing here implies the type of this literal; write it out: 1.5:f32", at=found.at)
        return found.build(dtype)

    def _literal(self, value: Number, at: int) -> Operand:
        """A literal, of the type written after it (``1.5:f16``) or to be implied."""

        def build(dtype: DType) -> Scalar:
            problem = _mismatch(value, dtype)
            if problem:
                raise self.tokens.error(problem, at=at)
            return self.located(at, lambda: const(value, dtype))

        if self.tokens.text == ":" and self.tokens.ahead()[1] in DTYPES:
            self.tokens.next()
            return build(self.dtype())
        return Const(value, DType.BOOL) if isinstance(value, bool) else Untyped(build, at)

    def complex_literal(self) -> complex | None:
        """``(1.0-2.0j)`` if that is what follows."""
        tokens = self.tokens
        skip = 2 if tokens.ahead(1)[1] == "-" else 1
        if tokens.ahead(skip + 2)[0] != "imaginary":
            return None
        tokens.next()
        real = -float(self._part()) if tokens.accept("-") else float(self._part())
        sign = tokens.next()
        imaginary = float(tokens.next()[:-1])
        tokens.expect(")", "after a complex literal")
        return complex(real, -imaginary if sign == "-" else imaginary)

    def _part(self) -> str:
        if self.tokens.kind != "number" and self.tokens.text not in ("inf", "nan"):
            raise self.tokens.expected("the real part of a complex literal")
        return self.tokens.next()


def _mismatch(value: Number, dtype: DType) -> str | None:
    if dtype is DType.BOOL:
        return None if isinstance(value, bool) else f"literal {value} where bool is expected; write true or false"
    if isinstance(value, bool):
        return f"literal {str(value).lower()} where {dtype} is expected"
    if dtype.is_integer and not isinstance(value, int):
        return f"literal {value} where {dtype} is expected"
    return None
