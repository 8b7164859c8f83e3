"""Evaluates scalar terms over a tile: each value once for each step that it depends on, loads shared between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from tvm import tirx
from tvm.ir import StringImm

from tpopt.backend.generated.plan import Nest, Pack
from tpopt.backend.tvm.code import Code, Expr, lanes_of, literal, prefetch, scalar, splat, vector_type
from tpopt.backend.tvm.elements import Value, choose, computed, constant, convert, named, rounded
from tpopt.backend.tvm.functions import apply
from tpopt.backend.tvm.operands import NOTHING, Operand, Operands, both
from tpopt.backend.tvm.places import Indices, Line, Place, Where, add, multiply, vector
from tpopt.backend.tvm.squares import along_memory, turned
from tpopt.backend.tvm.summing import Summing
from tpopt.backend.tvm.tiles import Step, Tile
from tpopt.ir import Apply, Cast, Const, Guard, Iter, Lookup, Position, Read, Reduce, Scalar, Select
from tpopt.ir.bounds import nonnegative, within
from tpopt.ir.index import Index, walk_atoms
from tpopt.ir.interpret.terms import iters_of, shared
from tpopt.ir.walk import children, guard_indices, own_indices, postorder
from tpopt.rewrite.stages import mentions_lookup

Context: TypeAlias = "tuple[tuple[Guard, bool], ...]"
"""Guards of the enclosing selects, and whether each holds."""
Key: TypeAlias = "tuple[Scalar | Guard | Lookup, Context, Step]"


class Evaluator:
    """Values of one stage's terms. ``tile`` is where it stands; :meth:`scope` opens a loop's own set of values."""

    def __init__(
        self, code: Code, operands: Operands, packs: Mapping[Read, tuple[Pack, Operand]], nest: Nest, tile: Tile
    ) -> None:
        self.code, self.nest, self.tile = code, nest, tile
        self._operands, self._packs = operands, packs
        self._memo: list[dict[Key, Value]] = [{}]
        self._free: dict[Scalar, frozenset[Iter]] = {}
        self._standing: tuple[Context, Step, Expr | None] = ((), (), None)
        self._some: Sequence[Step] | None = None
        self.indices = Indices(code.bind, self._fetch)

    def push(self, tile: Tile) -> Tile:
        """Enters a loop body; returns the tile to give back to :meth:`pop`."""
        before, self.tile = self.tile, tile
        self._memo.append({})
        return before

    def pop(self, before: Tile) -> None:
        """Leaves it: values made inside are not in scope any more."""
        self._memo.pop()
        self.tile = before

    def free(self, term: Scalar) -> frozenset[Iter]:
        """Iterators that a term depends on."""
        if term not in self._free:
            for part in postorder(term):
                if part not in self._free:
                    own = frozenset(iters_of(own_indices(part))).union(*(self._free[c] for c in children(part)))
                    self._free[part] = own - frozenset(part.iters) if isinstance(part, Reduce) else own
        return self._free[term]

    def depends(self, term: Scalar, context: Context) -> frozenset[Iter]:
        """Iterators that a term's value depends on where it is evaluated under guards."""
        guards = (frozenset(iters_of(guard_indices(g))) for g, _ in context)
        return self.free(term).union(*guards)

    @contextmanager
    def at(self, steps: Sequence[Step] | None) -> Iterator[None]:
        """While it lasts, terms are evaluated at some steps alone; reductions, whose loops run once, at all of them."""
        before, self._some = self._some, steps
        yield
        self._some = before

    def _steps(self, term: Scalar, iters: frozenset[Iter]) -> list[Step]:
        """The steps at which a term is evaluated."""
        every = self.tile.steps(iters)
        if self._some is None or isinstance(term, Reduce):
            return every
        some = {self.tile.step(s, iters) for s in self._some}
        return [s for s in every if s in some]

    def evaluate(self, root: Scalar, context: Context = ()) -> None:
        """Writes the code for a term at every step of the tile."""
        pending = [(root, self._needed(root, context), False)]
        while pending:
            term, under, ready = pending.pop()
            iters = self.depends(term, under)
            steps = self._steps(term, iters)
            if all(self._find(term, under, s) is not None for s in steps):
                continue
            if isinstance(term, Reduce):
                self._reduce(term, under)
            elif ready:
                for step in steps:
                    if self._find(term, under, step) is None and not self._turned(term, under, step):
                        self._put(term, under, step, self._make(term, under, step))
            else:
                pending.append((term, under, True))
                pending += [(c, self._needed(c, u), False) for c, u in reversed(_operands(term, under))]

    def get(self, term: Scalar, context: Context, at: Step) -> Value:
        """The value of a term that was evaluated, at a step of the tile."""
        under = self._needed(term, context)
        found = self._find(term, under, self.tile.step(at, self.depends(term, under)))
        assert found is not None, f"{term} was not evaluated"
        return found

    def put_sums(self, base: Reduce, sums: Mapping[Step, Value]) -> None:
        """Values of a reduction that was computed elsewhere."""
        for step, value in sums.items():
            self._put(base, (), step, (value,))

    def put_read(self, read: Read, value: Value) -> None:
        """The value of a read at the one step of the tile, which was fetched elsewhere."""
        self._put(read, (), (), value)

    def _find(self, term: Scalar | Guard | Lookup, context: Context, at: Step) -> Value | None:
        key = (shared(term) if isinstance(term, Reduce) else term, context, at)
        for memo in reversed(self._memo):
            if key in memo:
                return memo[key][term.pick] if isinstance(term, Reduce) else memo[key]
        return None

    def _put(self, term: Scalar | Guard | Lookup, context: Context, at: Step, value: Value) -> None:
        self._memo[-1][term, context, at] = value

    def _needed(self, term: Scalar, context: Context) -> Context:
        """The guards under which a term must be evaluated: none where it is safe anywhere."""
        if not context or isinstance(term, Const):
            return ()
        reads = [t for t in postorder(term) if isinstance(t, Read)]
        safe = not mentions_lookup(term) and all(self._packs.get(r) or in_bounds(r) for r in reads)
        return () if safe else context

    def _reduce(self, term: Reduce, context: Context) -> None:
        base = shared(term)
        iters = self.depends(base, context)
        with self.at(None):
            for step, parts in self.summed(base, context, self.tile.steps(iters)).items():
                self._put(base, context, step, parts)

    def summed(self, base: Reduce, context: Context, steps: Sequence[Step]) -> Mapping[Step, tuple[Value, ...]]:
        """Writes the loops of a reduction; returns its results at each step."""
        return Summing(self, base, context, steps).run()

    def stop_where(self, bad: Expr, message: str) -> None:
        """Ends the kernel where a condition holds in any lane."""
        self.code.emit(tirx.AssertStmt(tirx.Not(_any(bad, self.code)), StringImm("IndexError"), [StringImm(message)]))

    def _make(self, term: Scalar, context: Context, at: Step) -> Value:
        match term:
            case Const(value=value):
                return constant(value, term.dtype)
            case Position():
                lanes = self._lanes(self.free(term))
                with self._under(context, at):
                    where = vector(self.indices.at(term.value, self.tile.place(at)), lanes)
                return self.code.bind(tirx.Cast(vector_type("int64", lanes), where))
            case Read():
                return self._read(term, context, at)
            case Cast():
                value = convert(self.get(term.value, context, at), term.value.dtype, term.dtype, self.code.bind)
                return named(self.code, value)
            case Select():
                condition = self._condition(term.guard, context, at)
                inside = self.get(term.inside, (*context, (term.guard, True)), at)
                outside = self.get(term.outside, (*context, (term.guard, False)), at)
                return named(self.code, choose(condition, inside, outside))
            case _:
                assert isinstance(term, Apply)
                return self._apply(term, context, at)

    def _apply(self, term: Apply, context: Context, at: Step) -> Value:
        args = [self.get(a, context, at) for a in term.args]
        dtype = term.args[-1].dtype
        value = apply(term.function, args, dtype, self.code.bind)
        if dtype is not computed(dtype) and term.dtype is dtype:
            value = rounded(value, dtype, self.code.bind)
        return named(self.code, value)

    def _lanes(self, iters: Iterable[Iter]) -> int:
        """Lanes of what depends on these iterators."""
        return self.tile.lanes if self.tile.vector is not None and self.tile.vector in iters else 1

    def _read(self, term: Read, context: Context, at: Step) -> Value:
        place = self.tile.place(at)
        lanes = self._lanes(self.free(term))
        if term in self._packs:
            pack, operand = self._packs[term]
            where = self._packed(pack, at)
            if pack.ahead and pack.starts_line(dict(at)):
                assert isinstance(where, Line)
                prefetch(self.code, operand.buffer, where.base + pack.ahead)
            return operand.load(self.code, where, lanes, None)
        operand = self._operands[term.tensor.name]
        with self._under(context, at) as mask:
            sizes = _left(term) if operand.foreign and mask is not None and lanes > 1 else NOTHING
            where = operand.offset(term.indices, place, self.indices, sizes)
        if lanes > 1:
            mask = both(mask, self.tile.mask, lambda m: splat(m, lanes))
        elif mask is not None and not isinstance(where, Line):
            mask = splat(mask, 1)
        return operand.load(self.code, where, lanes, mask)

    def _turned(self, term: Scalar, context: Context, at: Step) -> bool:
        """Whether a read's values were made for all steps along memory at once."""
        if not isinstance(term, Read) or context or term in self._packs:
            return False
        operand = self._operands[term.tensor.name]
        along = along_memory(term, operand, self.tile)
        if along is None:
            return False
        others = tuple((i, n) for i, n in at if i is not along)
        found = turned(self.code, term, operand, self.tile, along, others, self.indices)
        for step in self.tile.steps(self.free(term)):
            if set(others) <= set(step):
                self._put(term, context, step, found[dict(step)[along]])
        return True

    def _packed(self, pack: Pack, at: Step) -> Where:
        """Where the constant for a step lies in its own layout."""
        steps = dict(at)
        numbers: list[Where] = [Line.of(self.tile.numbers.get(i, 0)) for i in pack.tiles]
        numbers += [self.tile.lines[i] for i in pack.reduced]
        numbers += [Line.of(steps.get(i, 0)) for i in pack.steps]
        if pack.lane is not None:
            numbers.append(Line(0, 1, self.tile.lanes))
        total: Where = Line.of(0)
        stride = 1
        for number, extent in zip(reversed(numbers), reversed(pack.shape), strict=True):
            total = add(total, multiply(Line.of(stride), number, self.tile.lanes), self.tile.lanes)
            stride *= extent
        return total

    @contextmanager
    def _under(self, context: Context, at: Step) -> Iterator[Expr | None]:
        """Stands at a step, under guards, while indices are evaluated; yields where all of the guards hold."""
        before = self._standing
        mask = self.mask(context, at)
        self._standing = (context, at, mask)
        yield mask
        self._standing = before

    def mask(self, context: Context, at: Step) -> Expr | None:
        """Where all guards hold, at a step; ``None`` for no guards."""
        mask: Expr | None = None
        for number, (guard, holds) in enumerate(context):
            condition = self._condition(guard, context[:number], at)
            if not holds:
                condition = tirx.Not(condition)
            mask = both(mask, condition, lambda m: splat(m, self.tile.lanes))
        return None if mask is None else self.code.bind(mask)

    def _condition(self, guard: Guard, context: Context, at: Step) -> Expr:
        """Where a guard holds; one that looks something up is asked only where those around it hold."""
        looks_up = any(isinstance(a, Lookup) for i in guard_indices(guard) for a in walk_atoms(i))
        under = context if looks_up else ()
        step = self.tile.step(at, self._iters(guard_indices(guard), under))
        known = self._find(guard, under, step)
        if known is None:
            with self._under(under, at):
                known = self.code.bind(self._bounds(guard, self.tile.place(step)))
            self._put(guard, under, step, known)
        return known

    def _iters(self, indices: Iterable[Index], context: Context) -> frozenset[Iter]:
        """Iterators that indices and guards depend on."""
        return frozenset(iters_of((*indices, *(i for g, _ in context for i in guard_indices(g)))))

    def _bounds(self, guard: Guard, place: Place) -> Expr:
        found: Expr | None = None
        for bound in guard.bounds:
            value, low, high = (self.indices.at(i, place) for i in (bound.value, bound.low, bound.high))
            pairs = []
            if not nonnegative(bound.value - bound.low):
                pairs.append((low, value, tirx.LE))
            if not nonnegative(bound.high - bound.value - 1):
                pairs.append((value, high, tirx.LT))
            for a, b, compare in pairs:
                flat = all(isinstance(w, Line) and not w.step for w in (a, b))
                lanes = 1 if flat else place.lanes
                one = compare(vector(a, lanes), vector(b, lanes))
                found = both(found, one, lambda m: splat(m, place.lanes))
        return tirx.const(True, "bool") if found is None else found

    def _fetch(self, lookup: Lookup, place: Place) -> Where:
        """An index that is data: read, and checked against its bounds before anything is read at it."""
        context, at, mask = self._standing
        step = self.tile.step(at, self._iters(lookup.indices, context))
        known = self._find(lookup, context, step)
        if known is None:
            known = self._looked_up(lookup, place, mask)
            self._put(lookup, context, step, known)
        return known

    def _looked_up(self, lookup: Lookup, place: Place, mask: Expr | None) -> Where:
        operand = self._operands[lookup.tensor.name]
        lanes = self._lanes(iters_of(lookup.indices))
        if lanes > 1:
            mask = both(mask, self.tile.mask, lambda m: splat(m, lanes))
        elif mask is not None:
            mask = _any(mask, self.code)
        where = operand.offset(lookup.indices, place, self.indices)
        value = self.code.bind(tirx.Cast(vector_type("int64", lanes), operand.load(self.code, where, lanes, mask)))
        low, high = (vector(self.indices.at(i, place), 1) for i in (lookup.low, lookup.high))
        bad = tirx.Or(value < splat(tirx.Cast("int64", low), lanes), value >= splat(tirx.Cast("int64", high), lanes))
        message = f"index out of range in {lookup.tensor.name}: expected {lookup.low} <= index < {lookup.high}"
        self.stop_where(bad if mask is None else tirx.And(bad, splat(mask, lanes)), message)
        value = self.code.bind(tirx.Cast(vector_type("int32", lanes), value))
        return value if lanes > 1 else Line.of(value)


def _any(mask: Expr, code: Code) -> Expr:
    """Whether a mask holds in any lane."""
    lanes = lanes_of(mask)
    if lanes == 1:
        return mask
    bits = tirx.Select(mask, literal(1, "int32", lanes), literal(0, "int32", lanes))
    return tirx.NE(tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.or", code.bind(bits)), scalar(0))


def _operands(term: Scalar, context: Context) -> list[tuple[Scalar, Context]]:
    """What a term is computed from, and under which guards."""
    if isinstance(term, Select):
        return [(term.inside, (*context, (term.guard, True))), (term.outside, (*context, (term.guard, False)))]
    return [(c, context) for c in children(term)]


def _left(read: Read) -> dict[int, int]:
    """Sizes of the axes that a read may leave, where guards do not keep it inside."""
    axes = enumerate(zip(read.indices, read.tensor.shape, strict=True))
    return {n: e for n, (i, e) in axes if isinstance(e, int) and not within(i, 0, e)}


def in_bounds(read: Read) -> bool:
    """Whether a read is proved to stay inside its tensor for all values of its iterators."""
    return all(within(i, 0, e) for i, e in zip(read.indices, read.tensor.shape, strict=True))
