"""Sums over an iterator that a guard pins to one value."""

from __future__ import annotations

from dataclasses import replace

from tpopt.ir import Bound, Builder, Index, Iter, Select, guard
from tpopt.ir.walk import is_literal
from tpopt.passes.collapse_deltas import pinned
from tpopt.passes.derive.form import Form
from tpopt.passes.derive.products import Product, guarded, without
from tpopt.rewrite import Numerics, Refusal


class CollapseDeltas:
    """Replaces a sum over an iterator that a guard pins to one value with the product at that value.

    A product with a diagonal, an identity, a permutation given by its formula or a one-hot matrix is such a sum.
    Numerics: reassociating.

    Given::

        y: f32[9] = L[i:9] sum[j:9,k:4]{ select(0 <= i-j < 1, d[j], 0.0) * x[j,k] }

    Result::

        y: f32[9] = L[i:9] sum[k:4]{ d[i] * x[i,k] }
    """

    name = "CollapseDeltas"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form without pinned sums, or why there are none."""
        polynomial = tuple(_collapsed(p) for p in form.polynomial)
        if polynomial == form.polynomial:
            return Refusal("no guard pins a summed iterator to one value")
        return replace(form, polynomial=polynomial)


def _collapsed(product: Product) -> Product:
    while True:
        found = _pin(product)
        if found is None:
            return product
        iterator, value, bound = found
        factors = tuple(without(f, bound) for f in product.factors)
        summed = tuple(i for i in product.summed if i is not iterator)
        moved = Product(summed, factors).moved({iterator: value})
        inside = guard((0, value, iterator.extent))
        kept = tuple(f for f in moved.factors if not is_literal(f, 1)) or moved.factors[:1]
        product = Product(summed, guarded(kept, inside) if inside.bounds else kept)


def _pin(product: Product) -> tuple[Iter, Index, Bound] | None:
    for factor in product.factors:
        for bound in factor.guard.bounds if isinstance(factor, Select) and is_literal(factor.outside, 0) else ():
            for iterator in product.summed:
                value = pinned(bound, iterator)
                if value is not None:
                    return iterator, value, bound
    return None
