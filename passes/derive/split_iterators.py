"""Iterators that indices divide: two iterators in place of one."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from tpopt.ir import Builder, FloorDiv, Iter, Mod, postorder
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.walk import own_indices
from tpopt.passes.derive.form import Form, Split
from tpopt.passes.derive.products import Polynomial
from tpopt.rewrite import Numerics, Refusal

MOST_SPLITS = 16
"""Of one region."""


class SplitIterators:
    """Replaces an iterator that indices divide by d with two: ``i = d*a + b``.

    What a view, a reshape or a Kronecker product says with divisions and remainders is then said by plain iterators,
    and each factor depends on those alone that it needs. Where a loop of the result is split, the result is computed
    over the parts and read in order. The divisors come from the indices; each must divide the extent. Numerics: exact.

    Given::

        y: f32[6] = L[i:6] sum[k:6]{ a[i//3,k//3] * b[i%3,k%3] * x[k] }

    Result::

        y.parts: f32[2,3] = L[i1:2,i2:3] sum[k1:2,k2:3]{ a[i1,k1] * b[i2,k2] * x[3*k1+k2] }
        y: f32[6] = L[i:6] y.parts[i//3,i%3]
    """

    name = "SplitIterators"
    numerics = Numerics.EXACT

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form without such divisions, or why it keeps them."""
        changed = False
        for _ in range(MOST_SPLITS):
            found = _divided(form.polynomial)
            if not isinstance(found, tuple):
                break
            iterator, divisor = found
            form, changed = _split(form, iterator, divisor, builder), True
        else:
            return Refusal(f"more than {MOST_SPLITS} splits")
        return form if changed else Refusal(found if isinstance(found, str) else "no index divides an iterator")


def _divided(polynomial: Polynomial) -> tuple[Iter, int] | str | None:
    """An iterator to split and the extent of its inner part; a reason where one is divided and cannot be split."""
    reason = None
    for product in polynomial:
        for factor in product.factors:
            for atom in (a for t in postorder(factor) for i in own_indices(t) for a in walk_atoms(i)):
                if not isinstance(atom, (FloorDiv, Mod)) or atom.denominator.constant is None:
                    continue
                for iterator in (a for a in atom.numerator.atoms if isinstance(a, Iter)):
                    slope = atom.numerator.coefficient(iterator).constant
                    if slope is None or not isinstance(iterator.extent, int):
                        continue
                    inner = atom.denominator.constant // gcd(slope, atom.denominator.constant)
                    if 1 < inner < iterator.extent and iterator.extent % inner == 0:
                        return iterator, inner
                    reason = f"{atom.text}: {inner} does not divide the extent {iterator.extent}"
    return reason


def _split(form: Form, iterator: Iter, inner: int, builder: Builder) -> Form:
    assert isinstance(iterator.extent, int)
    outer_part = Iter(builder.name(f"{iterator.name}a"), iterator.extent // inner)
    inner_part = Iter(builder.name(f"{iterator.name}b"), inner)
    mapping: dict[Atom, IndexLike] = {iterator: inner * outer_part + inner_part}
    products = []
    for product in form.polynomial:
        moved = product.moved(mapping)
        summed = tuple(p for i in product.summed for p in ((outer_part, inner_part) if i is iterator else (i,)))
        products.append(replace(moved, summed=summed))
    split = Split(iterator, outer_part, inner_part)
    own = (split,) if iterator in form.loops else ()
    return replace(form, polynomial=tuple(products), splits=(*form.splits, *own))
