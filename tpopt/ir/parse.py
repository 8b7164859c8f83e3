"""Reads programs and stages from the text that :mod:`tpopt.ir.text` prints.

Spaces and line ends separate tokens and mean nothing else; ``#`` starts a comment. Whatever is wrong raises
:class:`~tpopt.errors.ParseError` with its line and column. The program that comes back holds the very terms that were
printed, but no values of weights and no origins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tpopt.ir.dtypes import DType
from tpopt.ir.index import Iter, Symbol
from tpopt.ir.lexer import Tokens
from tpopt.ir.parse_index import Scope, by_name
from tpopt.ir.parse_stage import StageReader
from tpopt.ir.program import Alias, Program
from tpopt.ir.stages import Stage
from tpopt.ir.terms import Scalar, Tensor


def parse_program(text: str) -> Program:
    """The program that ``text`` describes."""
    reader = ProgramReader(Tokens(text), Scope())
    found = reader.program()
    reader.finish()
    return found


def parse_stage(text: str, tensors: Iterable[Tensor] | Mapping[str, Tensor], symbols: Iterable[Symbol] = ()) -> Stage:
    """One stage, ``y: f32[7] = L[i:7] sum[k:11]{ x[i,k] }``, over tensors that exist."""
    reader = ProgramReader(Tokens(text), Scope(by_name(tensors), {s.name: s for s in symbols}))
    found = reader.stage()
    reader.finish()
    return found


def parse_term(
    text: str,
    tensors: Iterable[Tensor] | Mapping[str, Tensor],
    iterators: Iterable[Iter] = (),
    dtype: DType | None = None,
    symbols: Iterable[Symbol] = (),
) -> Scalar:
    """One scalar term over tensors and iterators that exist; ``dtype`` types literals that nothing else does."""
    scope = Scope(by_name(tensors), {s.name: s for s in symbols}, {i.name: i for i in iterators})
    reader = ProgramReader(Tokens(text), scope)
    reader.lets()
    found = reader.term(dtype)
    reader.finish()
    return found


class ProgramReader(StageReader):
    """Reads programs."""

    def finish(self) -> None:
        """Nothing may follow."""
        if self.tokens.kind != "end":
            raise self.tokens.expected("the end, or an operator")

    def program(self) -> Program:
        """A program, in a scope of its own except for the symbols around it."""
        outer, self.scope = self.scope, Scope(symbols=dict(self.scope.symbols))
        name, inputs, symbols = self._header()
        weights: list[Tensor] = []
        while self.tokens.text == "weight" and self.tokens.ahead()[0] == "name":
            self.tokens.next()
            weights.append(self._defined(self.declaration))
        stages: list[Stage] = []
        while not self._at_return():
            stages.append(self.stage())
        outputs = self._outputs()
        aliases = self._aliases()
        self.scope = outer
        return Program(name, inputs, tuple(weights), tuple(stages), outputs, aliases, symbols)

    def _header(self) -> tuple[str, tuple[Tensor, ...], tuple[Symbol, ...]]:
        """``program name(inputs)`` and the symbols after it, which the inputs may use."""
        tokens = self.tokens
        tokens.expect("program", "at the start")
        name = tokens.name("the name of the program")
        tokens.expect("(", "before the inputs")
        start, depth = tokens.position, 1
        while depth:
            if tokens.kind == "end":
                raise tokens.expected("')' after the inputs")
            depth += {"(": 1, ")": -1}.get(tokens.next(), 0)
        symbols: list[Symbol] = []
        while tokens.text == "symbol" and tokens.ahead()[0] == "name":
            symbols.append(self._symbol())
        after, tokens.position = tokens.position, start
        inputs = self.listed(lambda: self._defined(self.declaration), ")")
        tokens.position = after
        return name, inputs, tuple(symbols)

    def _symbol(self) -> Symbol:
        """``symbol name in [low, high]``."""
        tokens = self.tokens
        tokens.next()
        name = tokens.name("the name of a symbol")
        tokens.expect("in", "after the name of a symbol")
        tokens.expect("[", "before the range of a symbol")
        low = tokens.integer("the least value of a symbol")
        tokens.expect(",", "in the range of a symbol")
        high = None if tokens.accept("inf") else tokens.integer("the greatest value of a symbol, or inf")
        tokens.expect("]", "after the range of a symbol")
        self.scope.symbols[name] = Symbol(name, low, high)
        return self.scope.symbols[name]

    def _defined(self, read: Callable[[], Tensor]) -> Tensor:
        at = self.tokens.position
        tensor = read()
        if tensor.name in self.scope.tensors:
            raise self.tokens.error(f"tensor {tensor.name} is defined twice", at=at)
        self.scope.tensors[tensor.name] = tensor
        return tensor

    def _at_return(self) -> bool:
        return self.tokens.text == "return" and self.tokens.ahead()[1] not in (":", ",")

    def _outputs(self) -> tuple[Tensor, ...]:
        tokens = self.tokens
        tokens.next()
        found: list[Tensor] = []
        if tokens.kind != "name" or self._at_alias():
            return ()
        found.append(self.tensor())
        while tokens.accept(","):
            found.append(self.tensor())
        return tuple(found)

    def _at_alias(self) -> bool:
        return self.tokens.text == "alias" and self.tokens.ahead()[0] == "number"

    def _aliases(self) -> tuple[Alias, ...]:
        """``alias output -> tensor`` lines."""
        found: list[Alias] = []
        while self._at_alias():
            self.tokens.next()
            output = self.tokens.integer("the number of an output")
            self.tokens.expect("->", "after the number of an output")
            found.append(Alias(output, self.tensor().name))
        return tuple(found)
