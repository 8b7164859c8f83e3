"""Reads stages of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, TypeVar

from tpopt.ir.dtypes import DType
from tpopt.ir.index import Iter
from tpopt.ir.parse_attribute import AttributeReader
from tpopt.ir.parse_index import Scope, by_name
from tpopt.ir.program import Program
from tpopt.ir.stages import SCATTER_OPS, Attribute, Compute, Cond, Kernel, Opaque, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.terms import Scalar, Tensor

T = TypeVar("T")


class StageReader(AttributeReader):
    """Reads stages; :class:`tpopt.ir.parse.ProgramReader` reads the programs nested in them."""

    def program(self) -> Program:
        """A nested program."""
        raise NotImplementedError

    def stage(self) -> Stage:
        """A stage; its outputs are in scope from then on."""
        tokens, scope = self.tokens, self.scope
        scope.iterators, scope.lets = {}, {}
        start = tokens.position
        outs = self._declared_outs()
        tokens.expect("=", "after what the stage defines")
        keyword = tokens.text
        if keyword not in self._readers:
            raise tokens.expected(f"a stage ({', '.join(self._readers)})")
        tokens.next()
        found = self.located(start, lambda: self._readers[keyword](self, outs))
        for out in outs:
            if out.name in scope.tensors:
                raise tokens.error(f"tensor {out.name} is defined twice", at=start)
            scope.tensors[out.name] = out
        return found

    def _declared_outs(self) -> tuple[Tensor, ...]:
        if self.tokens.accept("none"):
            return ()
        outs = [self.declaration()]
        while self.tokens.accept(","):
            outs.append(self.declaration())
        return tuple(outs)

    def _bodies(self, loops: tuple[Iter, ...], dtypes: tuple[DType, ...]) -> tuple[Scalar, ...]:
        """Named parts and one term for each type, with the loops in scope."""
        self.scope.iterators = {i.name: i for i in loops}
        self.lets()
        bodies: list[Scalar] = []
        for dtype in dtypes:
            if bodies:
                self.tokens.expect(",", "and a body for each output")
            bodies.append(self.term(dtype))
        return tuple(bodies)

    def _compute(self, outs: tuple[Tensor, ...]) -> Stage:
        loops = self.iterators()
        return Compute(outs, loops, self._bodies(loops, tuple(o.dtype for o in outs)))

    def _scatter(self, outs: tuple[Tensor, ...]) -> Stage:
        tokens = self.tokens
        out = self._exactly(outs, 1, "scatter")[0]
        if tokens.text not in SCATTER_OPS:
            raise tokens.unknown("scatter operator", tokens.text, SCATTER_OPS, tokens.position)
        operator = tokens.next()
        tokens.expect("into", "after the scatter operator")
        base = self.tensor()
        tokens.expect("L", "and the loops of a scatter")
        loops = self.iterators()
        self.scope.iterators = {i.name: i for i in loops}
        tokens.expect("at", "and where a scatter writes")
        at = self.indices()
        guard = self.guard() if tokens.accept("if") else None
        tokens.expect("{", "before the value of a scatter")
        value = self._bodies(loops, (out.dtype,))[0]
        tokens.expect("}", "after the value of a scatter")
        return Scatter(out, base, operator, loops, at, value, guard)

    def _scan(self, outs: tuple[Tensor, ...]) -> Stage:
        at, iterators = self.tokens.position, self.iterators()
        if len(iterators) != 1:
            raise self.tokens.error(f"a scan runs over one iterator, got {len(iterators)}", at=at)
        self.tokens.expect("(", "after the iterator of a scan")
        init = self._list("init")
        self.tokens.expect(",", "and xs=[…]")
        xs = self._list("xs")
        self.tokens.expect(",", "and captures=[…]")
        captures = self._list("captures")
        self.tokens.expect(")", "before the body of a scan")
        return Scan(outs, init, xs, captures, iterators[0], self._nested())

    def _cond(self, outs: tuple[Tensor, ...]) -> Stage:
        self.tokens.expect("(", "after cond")
        predicate = self.tensor()
        self.tokens.expect(",", "and captures=[…]")
        captures = self._list("captures")
        self.tokens.expect(")", "before the branches of cond")
        then = self._nested()
        self.tokens.expect("else", "and the other branch of cond")
        return Cond(outs, predicate, captures, then, self._nested())

    def _sort(self, outs: tuple[Tensor, ...]) -> Stage:
        values, indices = self._exactly(outs, 2, "sort")
        self.tokens.expect("(", "after sort")
        source = self.tensor()
        found = self.options(")", {"axis": 0, "descending": False, "stable": True})
        return Sort(values, indices, source, **found)  # type: ignore[arg-type]

    def _topk(self, outs: tuple[Tensor, ...]) -> Stage:
        values, indices = self._exactly(outs, 2, "topk")
        self.tokens.expect("(", "after topk")
        source = self.tensor()
        self.tokens.expect(",", "and k=…")
        self.tokens.expect("k", "= how many, after the source of topk")
        self.tokens.expect("=", "after k")
        k = self.size()
        found = self.options(")", {"axis": 0, "largest": True, "sorted": True})
        return TopK(values, indices, source, k, **found)  # type: ignore[arg-type]

    def _kernel(self, outs: tuple[Tensor, ...]) -> Stage:
        implementation = self._target("the name of a kernel")
        outer = self.scope
        self.scope = replace(outer, iterators=self.named_iterators() if self.tokens.text == "[" else {})
        reads, parameters = self._arguments(self.tensor)
        self.scope = outer
        layouts: tuple[str, ...] = ()
        if self.tokens.text == "layouts" and self.tokens.ahead()[1] == "[":
            self.tokens.next()
            layouts = self.bracketed(lambda: self.string("a layout"))
        defines: list[Stage] = []
        if self.tokens.text == "defines" and self.tokens.ahead()[1] == "{":
            self.tokens.next()
            self.tokens.next()
            self.deeper()
            self.scope = Scope(by_name(reads), outer.symbols)
            while not self.tokens.accept("}"):
                defines.append(self.stage())
            self.scope = outer
            self.shallower()
        return Kernel(outs, implementation, reads, tuple(defines), parameters, layouts)

    def _opaque(self, outs: tuple[Tensor, ...]) -> Stage:
        target = self._target("the name of an operator")
        args, kwargs = self._arguments(self.attribute)
        return Opaque(outs, target, args, kwargs)

    def _effectful(self, outs: tuple[Tensor, ...]) -> Stage:
        self.tokens.expect("opaque", "after effectful")
        target = self._target("the name of an operator")
        args, kwargs = self._arguments(self.attribute)
        return Opaque(outs, target, args, kwargs, effectful=True)

    def _target(self, what: str) -> str:
        return self.string(what) if self.tokens.kind == "string" else self.tokens.name(what)

    def _arguments(self, one: Callable[[], T]) -> tuple[tuple[T, ...], tuple[tuple[str, Attribute], ...]]:
        """``(positional, …, name=value, …)``."""
        self.tokens.expect("(", "before the arguments")
        positional: list[T] = []
        named: list[tuple[str, Attribute]] = []
        while self.tokens.text != ")":
            pair = self.named()
            if pair is not None:
                named.append(pair)
            elif named:
                raise self.tokens.expected("name=value")
            else:
                positional.append(one())
            if not self.tokens.accept(","):
                break
        self.tokens.expect(")", "or ','")
        return tuple(positional), tuple(named)

    def _list(self, name: str) -> tuple[Tensor, ...]:
        """``name=[tensors]``."""
        self.tokens.expect(name, "= and a list of tensors")
        self.tokens.expect("=", f"after {name}")
        return self.bracketed(self.tensor)

    def _nested(self) -> Program:
        self.tokens.expect("{", "before a nested program")
        self.deeper()
        found = self.program()
        self.shallower()
        self.tokens.expect("}", "after a nested program")
        return found

    def _exactly(self, outs: tuple[Tensor, ...], count: int, what: str) -> tuple[Tensor, ...]:
        if len(outs) != count:
            raise self.tokens.error(f"{what} defines {count} tensors, {len(outs)} are declared")
        return outs

    _readers: ClassVar[dict[str, Callable[[StageReader, tuple[Tensor, ...]], Stage]]] = {
        "L": _compute,
        "scatter": _scatter,
        "scan": _scan,
        "cond": _cond,
        "sort": _sort,
        "topk": _topk,
        "kernel": _kernel,
        "opaque": _opaque,
        "effectful": _effectful,
    }
