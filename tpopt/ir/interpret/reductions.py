"""Reductions of a stage: contractions where they are sums of products, folds in bounded pieces elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpopt.ir.index import Iter
from tpopt.ir.interpret.affine import Range, number
from tpopt.ir.interpret.arithmetic import Arrays
from tpopt.ir.interpret.contract import Contraction
from tpopt.ir.interpret.operands import Operand
from tpopt.ir.interpret.pointwise import Pointwise, Result, Scope
from tpopt.ir.interpret.products import Product, products
from tpopt.ir.interpret.space import Box, cut, pieces, points
from tpopt.ir.interpret.terms import StageTerms, shared
from tpopt.ir.program import Array
from tpopt.ir.terms import Const, Read, Reduce, Scalar, Select, const
from tpopt.ir.walk import children

_PIECE = 1 << 20  # elements of one fold: 8 MB, in cache with its operands
_WINDOW = 64  # reduced points up to which a large result is folded point by point
_FACTOR = 1 << 25  # elements of computed factors held at once: 256 MB


def reductions_of(roots: Sequence[Scalar]) -> list[Reduce]:
    """Reductions that terms read directly, outermost ones only, in order of appearance."""
    found: dict[Reduce, None] = {}
    seen: dict[Scalar, None] = {}
    stack = list(reversed(roots))
    while stack:
        term = stack.pop()
        if term in seen:
            continue
        seen[term] = None
        if isinstance(term, Reduce):
            found[shared(term)] = None
        else:
            stack.extend(reversed(children(term)))
    return list(found)


def run_reductions(scope: Scope, roots: Sequence[Scalar]) -> None:
    """Computes every reduction that ``roots`` need into ``scope.results``, inner ones first."""
    stack = [(r, False) for r in reversed(reductions_of(roots))]
    while stack:
        term, ready = stack.pop()
        if term in scope.results:
            continue
        plan = products(term, scope.terms.free(term), scope.arithmetic)
        terms = term.bodies if plan is None else tuple(f for p in plan for f in p.factors)
        if not ready:
            stack.append((term, True))
            stack.extend((r, False) for r in reversed(reductions_of(terms)))
            continue
        scope.results[term] = _Reduction(scope, term).run(plan)


class _Reduction:
    """One reduction over the box of its scope: ``kept`` are the iterators its value depends on."""

    def __init__(self, scope: Scope, term: Reduce) -> None:
        self.scope = scope
        self.term = term
        self.kept = scope.terms.free(term)
        full = full_ranges(scope, term.iters)
        self.box: Box = {**scope.box, **full}
        self.dtypes = [b.dtype for b in term.bodies]

    def run(self, plan: tuple[Product, ...] | None) -> Result:
        value = None
        if plan is not None and points(self.box, (*self.kept, *self.term.iters)):
            value = self._contracted(plan)
        arrays = self._folded() if value is None else (value,)
        return Result(self.kept, self.scope.box, arrays)

    def _contracted(self, plan: Sequence[Product]) -> Array | None:
        """Signed sum of contracted products; ``None`` when a guard was split off factors that are not finite."""
        total: Array | None = None
        for product in plan:
            value = self._product(product)
            if value is None:
                return None
            if product.negative:
                value = self.scope.arithmetic.apply("neg", (value,), self.term.dtype, self.term.dtype)
            args = (value,) if total is None else (total, value)
            total = (
                value if total is None else self.scope.arithmetic.apply("add", args, self.term.dtype, self.term.dtype)
            )
        return total

    def _product(self, product: Product) -> Array | None:
        box = {**self.box, **full_ranges(self.scope, product.iters)}
        terms = StageTerms("", self.scope.terms.iters, product.factors)
        computed = max((points(box, terms.free(f)) for f in product.factors if not self._viewed(f)), default=0)
        kept_points = points(box, self.kept)
        limit = max(1, kept_points * _FACTOR // max(computed, _FACTOR))
        parts = list(pieces(box, self.kept, limit))
        if len(parts) == 1:
            return self._block(product, terms, box)
        shape = [points(box, (i,)) for i in self.kept]
        out = np.zeros(shape, self.scope.arithmetic.storage(self.term.dtype))
        for part in parts:
            value = self._block(product, terms, part)
            if value is None:
                return None
            cut(out, self.kept, box, part)[...] = value
        return out

    def _block(self, product: Product, terms: StageTerms, box: Box) -> Array | None:
        arithmetic, dtype = self.scope.arithmetic, self.term.dtype
        operands: list[Operand] = []
        for factor in product.factors:
            axes = terms.free(factor)
            (array,) = Pointwise(self.scope, axes, box).evaluate([factor], box)
            if product.split and not arithmetic.finite(array):
                return None
            operands.append(Operand(axes, np.broadcast_to(array, [points(box, (i,)) for i in axes])))
        missing = [i for i in product.iters if all(i not in o.axes for o in operands)]
        if missing:
            count = const(points(box, missing), dtype)
            operands.append(Operand((), arithmetic.constant(count.value, dtype)))
        result = Contraction(self.kept, box, arithmetic, dtype).run(operands)
        return result.array.reshape([points(box, (i,)) if i in result.axes else 1 for i in self.kept])

    def _viewed(self, factor: Scalar) -> bool:
        """Whether a factor costs no memory of its own: a read that is a view, a literal, a finished reduction."""
        source = self.scope.padded(factor) if isinstance(factor, Select) else factor
        return isinstance(source, (Const, Reduce)) or (isinstance(source, Read) and not self.scope.gathers(source))

    def _folded(self) -> Arrays:
        arithmetic, iters = self.scope.arithmetic, self.term.iters
        axes = self.scope.terms.ordered((*self.kept, *iters))
        pointwise = Pointwise(self.scope, axes, self.box)
        inner, outer = points(self.box, iters), points(self.box, self.kept)
        window = inner <= _WINDOW and outer >= 16 * inner
        limits = (_PIECE, 1) if window else (max(1, _PIECE // max(1, inner)), _PIECE)
        parts = list(pieces(self.box, self.kept, limits[0]))
        whole: list[Array] = []
        for part in parts:
            done: Arrays | None = None
            for block in pieces(part, iters, limits[1]):
                values = self._block_fold(pointwise, axes, block)
                done = values if done is None else arithmetic.merge(self.term.monoid, done, values, self.dtypes)
            assert done is not None
            if len(parts) == 1:
                return done
            if not whole:
                whole = [np.zeros([points(self.box, (i,)) for i in self.kept], v.dtype) for v in done]
            for target, value in zip(whole, done, strict=True):
                cut(target, self.kept, self.box, part)[...] = value
        return tuple(whole)

    def _block_fold(self, pointwise: Pointwise, axes: Sequence[Iter], block: Box) -> Arrays:
        """The bodies over one block, folded; dimensions are those of ``kept``."""
        gone = tuple(axes.index(i) for i in self.term.iters)
        values = pointwise.evaluate(self.term.bodies, block)
        shapes = [[points(block, (i,)) if n in gone else v.shape[n] for n, i in enumerate(axes)] for v in values]
        if len(values) > 1:
            common = np.broadcast_shapes(*(tuple(s) for s in shapes))
            shapes = [list(common)] * len(values)
        spread = tuple(np.broadcast_to(v, s) for v, s in zip(values, shapes, strict=True))
        folded = self.scope.arithmetic.fold(self.term.monoid, spread, self.dtypes, gone)
        return tuple(f.squeeze(gone) for f in folded)


def full_ranges(scope: Scope, iters: Sequence[Iter]) -> dict[Iter, Range]:
    """The whole range of each iterator."""
    return {i: (0, number(i.extent, scope.symbols)) for i in iters}
