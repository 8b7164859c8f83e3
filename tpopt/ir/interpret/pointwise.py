"""Evaluation of scalar terms over a box, down to reads and finished reductions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tpopt.ir.index import Index, Iter
from tpopt.ir.interpret.affine import Symbols, affine, line
from tpopt.ir.interpret.arithmetic import Arithmetic, Arrays
from tpopt.ir.interpret.checks import Checks
from tpopt.ir.interpret.space import Box, Space, cut, points
from tpopt.ir.interpret.terms import StageTerms, shared
from tpopt.ir.interpret.views import View, read
from tpopt.ir.program import Array
from tpopt.ir.terms import Apply, Bound, Cast, Const, Guard, Position, Read, Reduce, Scalar, Select
from tpopt.ir.walk import children

_GATHERED = 1 << 24  # points above which a gather is done box by box rather than once


@dataclass(frozen=True)
class Result:
    """A finished reduction: one array for each component, over ``axes`` of ``box``."""

    axes: tuple[Iter, ...]
    box: Box
    arrays: Arrays


@dataclass(frozen=True)
class Scope:
    """What evaluating the terms of one stage needs."""

    terms: StageTerms
    box: Box
    tensors: Mapping[str, Array]
    symbols: Symbols
    arithmetic: Arithmetic
    results: dict[Reduce, Result] = field(default_factory=dict)
    masks: dict[Guard, tuple[Index, ...]] = field(default_factory=dict)

    @property
    def checks(self) -> Checks:
        return Checks(self.terms, self.box, self.tensors, self.symbols, self.arithmetic)

    def space(self, axes: Sequence[Iter], box: Box) -> Space:
        checks = self.checks
        return Space(axes, box, self.tensors, self.symbols, self.arithmetic, lambda atom, *_: checks.lookup(atom))

    def halves(self, guard: Guard) -> tuple[Index, ...]:
        """A guard as indices that must all be at least 0."""
        if guard not in self.masks:
            self.masks[guard] = tuple(h for b in guard.bounds for h in halves(b))
        return self.masks[guard]

    def padded(self, term: Select) -> Read | None:
        """The read of a select between a read and a literal, with at most conversions that change nothing around it."""
        inside = term.inside
        while isinstance(inside, Cast) and self.arithmetic.keeps(inside.value.dtype, inside.dtype):
            inside = inside.value
        return inside if isinstance(inside, Read) and isinstance(term.outside, Const) else None

    def gathers(self, term: Read) -> bool:
        """Whether an index has no single direction, so that reading copies an element for each point."""
        return any(affine(i, self.symbols) is None and line(i, self.symbols) is None for i in term.indices)

    def decide(self, guard: Guard, box: Box) -> bool | None:
        """Whether a guard holds on a whole box, or nowhere, by the spans of its affine bounds."""
        certain = True
        for half in self.halves(guard):
            form = affine(half, self.symbols)
            low, high = form.span(box) if form is not None else (-1, 0)
            if high < 0:
                return False
            certain = certain and low >= 0
        return True if certain else None


def halves(bound: Bound) -> tuple[Index, Index]:
    """``low <= value < high`` as two indices that must be at least 0."""
    return bound.value - bound.low, bound.high - bound.value - 1


class Pointwise:
    """Terms over ``axes``. Arrays have one dimension for each axis, of extent 1 where a value does not depend on it."""

    def __init__(self, scope: Scope, axes: Sequence[Iter], box: Box) -> None:
        self.scope = scope
        self.axes = tuple(axes)
        self.box = box
        self._views: dict[Scalar, View] = {}

    def evaluate(self, roots: Sequence[Scalar], box: Box) -> list[Array]:
        """Values of terms over a part of the box."""
        space = self.scope.space(self.axes, box)
        chosen: dict[Select, Scalar | Array] = {}
        steps = self._schedule(roots, space, chosen)
        uses: dict[Scalar, int] = dict.fromkeys(roots, 1)
        for term in steps:
            for child in self._operands(term, chosen):
                uses[child] = uses.get(child, 0) + 1
        done: dict[Scalar, Array] = {}
        for term in steps:
            done[term] = self._compute(term, done, space, chosen)
            for child in self._operands(term, chosen):
                uses[child] -= 1
                if not uses[child]:
                    del done[child]
        return [done[r] for r in roots]

    def _schedule(self, roots: Sequence[Scalar], space: Space, chosen: dict[Select, Scalar | Array]) -> list[Scalar]:
        """Terms to evaluate, operands first; selects that are settled on this box keep one branch."""
        done: dict[Scalar, None] = {}
        stack: list[tuple[Scalar, bool]] = [(r, False) for r in reversed(roots)]
        while stack:
            term, ready = stack.pop()
            if term in done:
                continue
            if ready:
                done[term] = None
                continue
            if isinstance(term, Select) and term not in chosen:
                self._choose(term, space, chosen)
            stack.append((term, True))
            stack.extend((c, False) for c in reversed(self._operands(term, chosen)))
        return list(done)

    def _choose(self, term: Select, space: Space, chosen: dict[Select, Scalar | Array]) -> None:
        settled = self.scope.decide(term.guard, space.box)
        if settled is None and self.scope.padded(term) is not None:
            return
        if settled is None:
            mask = space.holds(term.guard.bounds)
            settled = True if mask.all() else False if not mask.any() else None
            if settled is None:
                chosen[term] = mask
                return
        chosen[term] = term.inside if settled else term.outside

    def _operands(self, term: Scalar, chosen: Mapping[Select, Scalar | Array]) -> tuple[Scalar, ...]:
        if isinstance(term, Select):
            how = chosen.get(term)
            if how is None:
                return ()
            return (term.inside, term.outside) if isinstance(how, np.ndarray) else (how,)
        return () if isinstance(term, Reduce) else children(term)

    def _compute(
        self, term: Scalar, done: Mapping[Scalar, Array], space: Space, chosen: Mapping[Select, Scalar | Array]
    ) -> Array:
        arithmetic = self.scope.arithmetic
        match term:
            case Const():
                return arithmetic.constant(term.value, term.dtype).reshape((1,) * len(self.axes))
            case Read():
                return self._view(term, term, (), None, space)
            case Apply():
                args = [done[a] for a in term.args]
                return arithmetic.apply(term.function, args, term.args[-1].dtype, term.dtype)
            case Cast():
                return arithmetic.cast(done[term.value], term.value.dtype, term.dtype)
            case Position():
                return space.values(term.value)
            case Reduce():
                return self._result(term, space.box)
            case Select():
                return self._select(term, done, space, chosen)

    def _select(
        self, term: Select, done: Mapping[Scalar, Array], space: Space, chosen: Mapping[Select, Scalar | Array]
    ) -> Array:
        how = chosen.get(term)
        if isinstance(how, np.ndarray):
            return np.where(how, done[term.inside], done[term.outside])
        if how is not None:
            return done[how]
        source = self.scope.padded(term)
        assert source is not None
        assert isinstance(term.outside, Const)
        fill = self.scope.arithmetic.constant(term.outside.value, term.outside.dtype)
        return self._view(term, source, self.scope.halves(term.guard), fill, space)

    def _view(self, key: Scalar, source: Read, guards: tuple[Index, ...], fill: Array | None, space: Space) -> Array:
        """A read over the space's box: a part of the view over the whole box, which is made once."""
        if key not in self._views:
            whole, storage = self.scope.space(self.axes, self.box), self.scope.arithmetic.storage(source.dtype)
            at_once = not self.scope.gathers(source) or points(self.box, self.scope.terms.free(source)) <= _GATHERED
            view = read(
                whole if at_once else space,
                self.scope.tensors[source.tensor.name],
                source.indices,
                storage,
                guards,
                fill,
            )
            if view.outside:
                self.scope.checks.read(source)
            if not at_once:
                return self._masked(view.array, view, fill, space)
            self._views[key] = view
        view = self._views[key]
        return self._masked(cut(view.array, self.axes, self.box, space.box), view, fill, space)

    def _masked(self, array: Array, view: View, fill: Array | None, space: Space) -> Array:
        return np.where(space.nonnegative(view.leftover), array, fill) if view.leftover and fill is not None else array

    def _result(self, term: Reduce, box: Box) -> Array:
        result = self.scope.results[shared(term)]
        part = cut(result.arrays[term.pick], result.axes, result.box, box)
        shape = [part.shape[result.axes.index(i)] if i in result.axes else 1 for i in self.axes]
        return part.reshape(shape)
