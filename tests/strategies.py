"""Hypothesis strategies for index expressions, with a second way to evaluate them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from tpopt.ir import Index, Iter, Symbol, floordiv, index, mod

REACH = 5
"""Values tried of a symbol without an upper bound, counted from its lower one."""


@dataclass(frozen=True)
class Expression:
    """An expression tree: ``operator`` is ``+ - * // %``, a variable, or an integer."""

    operator: str | Iter | Symbol | int
    operands: tuple[Expression, ...] = ()

    def build(self) -> Index:
        """The index, through the public constructors."""
        if not isinstance(self.operator, str):
            return index(self.operator)
        a, b = (o.build() for o in self.operands)
        match self.operator:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "//":
                return floordiv(a, b)
            case _:
                return mod(a, b)

    def value(self, values: dict[str, int]) -> int:
        """The value, by Python's own arithmetic."""
        if isinstance(self.operator, int):
            return self.operator
        if not isinstance(self.operator, str):
            return values[self.operator.name]
        a, b = (o.value(values) for o in self.operands)
        return {"+": a + b, "-": a - b, "*": a * b, "//": a // b if b else 0, "%": a % b if b else 0}[self.operator]

    def variables(self) -> dict[str, Iter | Symbol]:
        """Every variable by name, with the symbols in extents."""
        own = {} if isinstance(self.operator, (str, int)) else {self.operator.name: self.operator}
        for one in list(own.values()):
            extent = one.extent if isinstance(one, Iter) else 0
            own.update({a.name: a for a in index(extent).atoms})
        for operand in self.operands:
            own.update(operand.variables())
        return own


def points(variables: dict[str, Iter | Symbol]) -> Iterator[dict[str, int]]:
    """Every assignment of the variables (symbols without an upper bound: the first few)."""
    symbols = [v for v in variables.values() if isinstance(v, Symbol)]
    iterators = [v for v in variables.values() if isinstance(v, Iter)]
    for chosen in itertools.product(
        *(range(s.low, (s.low + REACH if s.high is None else s.high) + 1) for s in symbols)
    ):
        values = {s.name: v for s, v in zip(symbols, chosen, strict=True)}
        extents = [e if isinstance(e, int) else values[str(e)] for e in (i.extent for i in iterators)]
        for positions in itertools.product(*map(range, extents)):
            yield values | {i.name: p for i, p in zip(iterators, positions, strict=True)}


SYMBOLS = (Symbol("s0", 1, 4), Symbol("s1", 2, None), Symbol("s2", 0, 3))
ITERATORS = tuple(Iter(n, e) for n, e in (("i", 3), ("j", 4), ("k", 1), ("p", index(SYMBOLS[0])), ("q", 6)))
LEAVES = st.sampled_from([*map(Expression, (*ITERATORS, *SYMBOLS))]) | st.integers(-4, 6).map(Expression)
DIVISORS = st.integers(1, 6).map(Expression) | st.sampled_from([Expression(SYMBOLS[0]), Expression(SYMBOLS[1])])


def _grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    sums = st.builds(lambda o, a, b: Expression(o, (a, b)), st.sampled_from("+-"), inner, inner)
    products = st.builds(lambda a, b: Expression("*", (a, b)), inner, LEAVES)
    divisions = st.builds(lambda o, a, b: Expression(o, (a, b)), st.sampled_from(["//", "%"]), inner, DIVISORS)
    return sums | products | divisions


expressions = st.recursive(LEAVES, _grow, max_leaves=6)
