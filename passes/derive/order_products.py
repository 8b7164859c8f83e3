"""Split a sum of products of many factors into a chain of products of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from tpopt.ir import (
    Apply,
    Builder,
    Compute,
    Const,
    Iter,
    Program,
    Read,
    Scalar,
    Select,
    Tensor,
    index,
    tensors_read,
    total,
)
from tpopt.ir.index import evaluate
from tpopt.passes.contraction import Cost, Network, Order, Tree, best_order
from tpopt.passes.contraction.network import Name
from tpopt.passes.derive.form import Form, fragment, multiplied
from tpopt.passes.derive.products import Product, guarded, is_indicator
from tpopt.rewrite.stages import free_iters


@dataclass(frozen=True)
class _Operand:
    """Factors that read the same iterators, as one operand."""

    factors: tuple[Scalar, ...]
    iterators: tuple[Iter, ...]
    constant: bool


@dataclass(frozen=True)
class Ordered:
    """A program in which every product has an order, and the multiply-adds of the orders."""

    program: Program
    macs: int
    folded_macs: int


@dataclass
class OrderProducts:
    """Replaces ``sum[a,b]{ x[a] * y[a,b] * z[b] }`` with a chain of products of two in the cheapest order.

    The order is the exact optimum up to 14 operands. Products of weights alone cost nothing: they are evaluated once.
    With ``fused``, a product whose result is as wide as what reads it stays inside its reader. Numerics: reassociating.

    Given::

        y: f32[9] = L[i0:9] sum[k:8,j:7]{ a[i0,k] * b[k,j] * x[j] }

    Result::

        y.product: f32[8] = L[k:8] sum[j:7]{ b[k,j] * x[j] }
        y: f32[9] = L[i0:9] sum[k:8]{ a[i0,k] * y.product[k] }
    """

    program: Program
    sizes: dict[str, int]
    builder: Builder
    cost: Cost = field(default_factory=Cost)
    fused: bool = False

    def run(self, form: Form) -> Ordered:
        """The region with every product ordered. Raises :class:`LimitExceeded` where a result would be too large."""
        start = len(self.builder.stages)
        emitter = _Emitter(self, form)
        alone = len(form.polynomial) == 1
        values = [emitter.product(p, stays=alone) for p in form.polynomial]
        value = values[0] if alone else Apply("add", tuple(values))
        root = form.closed(value)
        stages = (*form.prelude, *(s for s in self.builder.stages[start:] if isinstance(s, Compute)), root)
        return Ordered(fragment(self.program, form, stages), emitter.macs, emitter.folded)

    def extents(self, shape: Sequence[object]) -> list[int]:
        """Extents as numbers, run-time ones at the sizes given."""
        return [e if isinstance(e, int) else evaluate(index(e), self.sizes) for e in shape]  # type: ignore[arg-type]


@dataclass
class _Emitter:
    options: OrderProducts
    form: Form
    macs: int = 0
    folded: int = 0

    def product(self, product: Product, *, stays: bool) -> Scalar:
        """The value of a product, its stages emitted. ``stays``: its last step may be part of the root's own body."""
        literals = [f for f in product.factors if isinstance(f, Const)]
        operands = self._operands(product)
        network = self._network(product, operands)
        order = best_order(network, self.options.cost)
        self.macs, self.folded = self.macs + order.macs, self.folded + order.folded_macs
        value = self._chain(product, operands, order, stays)
        return multiplied((*literals, value), self.form.region.pivot) if literals else value

    def _operands(self, product: Product) -> list[_Operand]:
        constants = self.form.constants
        groups: dict[tuple[frozenset[Iter], bool], list[Scalar]] = {}
        indicators = []
        for factor in product.factors:
            if isinstance(factor, Const):
                continue
            if is_indicator(factor):
                indicators.append(factor)
                continue
            fixed = all(t in constants for t in tensors_read(factor))
            groups.setdefault((frozenset(free_iters(factor)), fixed), []).append(factor)
        for factor in indicators:
            own = frozenset(free_iters(factor))
            home = next((k for k in groups if own <= k[0] and not k[1]), (own, True))
            groups.setdefault(home, []).append(factor)
        return [self._operand(factors, fixed) for (_, fixed), factors in groups.items()] or [_Operand((), (), True)]

    def _operand(self, factors: list[Scalar], fixed: bool) -> _Operand:
        plain = tuple(f for f in factors if not is_indicator(f))
        for factor in factors:
            if is_indicator(factor) and plain:
                assert isinstance(factor, Select)
                plain = guarded(plain, factor.guard)
        chosen = plain or tuple(factors)
        return _Operand(chosen, tuple(dict.fromkeys(i for f in chosen for i in free_iters(f))), fixed)

    def _network(self, product: Product, operands: list[_Operand]) -> Network:
        iterators = dict.fromkeys(i for o in operands for i in o.iterators)
        sizes: dict[Name, int] = {i: self.options.extents((i.extent,))[0] for i in iterators}
        output = tuple(i for i in self.form.loops if i in iterators)
        fixed = frozenset(n for n, o in enumerate(operands) if o.constant)
        stored = {
            n: min(prod(sizes[i] for i in o.iterators), sum(map(self._elements, tensors_read(*o.factors))))
            for n, o in enumerate(operands)
        }
        formed = {n: len(o.factors) - 1 for n, o in enumerate(operands) if not o.constant}
        return Network(tuple(o.iterators for o in operands), output, sizes, fixed, stored, formed)

    def _elements(self, tensor: Tensor) -> int:
        return prod(self.options.extents(tensor.shape))

    def _chain(self, product: Product, operands: list[_Operand], order: Order, stays: bool) -> Scalar:
        like = self.form.region.pivot
        kept = {n: self._scope(o.iterators, o.iterators) for n, o in enumerate(operands)}
        made: dict[Tree, tuple[Scalar, tuple[Iter, ...]]] = {}
        for n, operand in enumerate(operands):
            value = multiplied(operand.factors, like)
            if operand.constant and len(operand.factors) > 1 and operand.iterators:
                value = self._stage(value, kept[n])  # evaluated once
            made[n] = (value, kept[n])
        for n in order.presums:
            made[n] = self._presummed(operands, n)
        if not order.steps:
            value, scope = made[0]
            own = tuple(i for i in scope if i not in self.form.loops)
            return total(own, value)
        for step in order.steps:
            (left, own_left), (right, own_right) = made[step.left], made[step.right]
            last = step is order.steps[-1]
            scope = self._scope(own_left, own_right, step.result)
            summed = tuple(i for i in dict.fromkeys((*own_left, *own_right)) if i not in step.result)
            value = total(summed, multiplied((*_factors(left), *_factors(right)), like))
            inside = self.options.fused and not step.constant and self._is_read_once(step.result, order, operands)
            if (last and stays) or (inside and not last):
                made[step.left, step.right] = (value, scope)
            else:
                made[step.left, step.right] = (self._stage(value, scope), scope)
        return made[order.tree][0]

    def _is_read_once(self, result: frozenset[object], order: Order, operands: list[_Operand]) -> bool:
        """Whether the last product visits each element of a result once, so that it need not be stored."""
        last = order.steps[-1]
        results = {(s.left, s.right): s.result for s in order.steps}
        visited: set[object] = set()
        for tree in (last.left, last.right):
            visited.update(operands[tree].iterators if isinstance(tree, int) else results[tree])
        return result == visited

    def _presummed(self, operands: list[_Operand], number: int) -> tuple[Scalar, tuple[Iter, ...]]:
        others = {i for n, o in enumerate(operands) if n != number for i in o.iterators}
        own = operands[number].iterators
        scope = tuple(i for i in own if i in others or i in self.form.loops)
        summed = tuple(i for i in own if i not in scope)
        value = total(summed, multiplied(operands[number].factors, self.form.region.pivot))
        if len(operands) == 1:
            return value, scope
        return self._stage(value, scope), scope

    def _scope(
        self, left: Sequence[Iter], right: Sequence[Iter], kept: frozenset[object] | None = None
    ) -> tuple[Iter, ...]:
        """Loops of a result: those of both operands, of the left alone, of the right alone; loops of the root last."""
        both = [i for i in left if i in right]
        found = [i for i in dict.fromkeys((*both, *left, *right)) if kept is None or i in kept]
        last = self.form.loops[-1:] if self.form.loops else ()
        return tuple([i for i in found if i not in last] + [i for i in found if i in last])

    def _stage(self, value: Scalar, scope: tuple[Iter, ...]) -> Read:
        name = self.options.builder.name(f"{self.form.region.name}.product")
        out = Tensor(name, tuple(i.extent for i in scope), value.dtype)
        self.options.builder.add(Compute((out,), scope, (value,)))
        return out.at(scope)


def _factors(value: Scalar) -> tuple[Scalar, ...]:
    return value.args if isinstance(value, Apply) and value.function == "mul" else (value,)
