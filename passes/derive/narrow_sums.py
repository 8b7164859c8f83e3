"""Sums over an iterator of which a guard leaves a part."""

from __future__ import annotations

from dataclasses import replace

from tpopt.ir import Bound, Builder, Iter, Select
from tpopt.ir.walk import is_literal
from tpopt.passes.derive.form import Form
from tpopt.passes.derive.products import Polynomial, Product, span, without
from tpopt.rewrite import Numerics, Refusal


class NarrowSums:
    """Replaces a sum over an iterator that a guard bounds by numbers with the sum over those values alone.

    A product with what was put together from pieces, or padded with zeros, is such a sum for each piece. A product
    whose guard leaves no value is gone. Numerics: reassociating (the zeros that are no longer added change no number).

    Given::

        y: f32[8] = L[i:8] sum[k:9]{ select(2 <= k < 6, x[k-2], 0.0) * w[i,k] }

    Result::

        y: f32[8] = L[i:8] sum[k1:4]{ x[k1] * w[i,k1+2] }
    """

    name = "NarrowSums"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form with shorter sums, or why there are none."""
        narrowed = [_narrowed(p, builder) for p in form.polynomial]
        polynomial: Polynomial = tuple(p for p in narrowed if p is not None)
        if not polynomial:
            return Refusal("no guard leaves any value: the sum is zero")
        if polynomial == form.polynomial:
            return Refusal("no guard bounds a summed iterator by numbers")
        return replace(form, polynomial=polynomial)


def _narrowed(product: Product, builder: Builder) -> Product | None:
    """The product with every sum as short as its guards allow; ``None`` where one is empty."""
    while (found := _bounded(product)) is not None:
        iterator, bound, start, end = found
        if start >= end:
            return None
        factors = tuple(without(f, bound) for f in product.factors)
        kept = tuple(f for f in factors if not is_literal(f, 1)) or factors[:1]
        shorter = Iter(builder.name(f"{iterator.name}n"), end - start)
        summed = tuple(shorter if i is iterator else i for i in product.summed)
        product = Product(summed, kept).moved({iterator: shorter + start})
    return product


def _bounded(product: Product) -> tuple[Iter, Bound, int, int] | None:
    """A summed iterator, a bound on it alone, and the values that it leaves."""
    for factor in product.factors:
        for bound in factor.guard.bounds if isinstance(factor, Select) and is_literal(factor.outside, 0) else ():
            for iterator in product.summed:
                found = span(bound, iterator)
                if found is not None and isinstance(iterator.extent, int):
                    return iterator, bound, max(found[0], 0), min(found[1], iterator.extent)
    return None
