"""Products that differ in constants alone."""

from __future__ import annotations

from dataclasses import replace

from tpopt.ir import Apply, Builder, Compute, Iter, Scalar, Tensor, tensors_read, total
from tpopt.ir.walk import substitute_iters
from tpopt.passes.derive.form import Form, multiplied
from tpopt.passes.derive.products import Product
from tpopt.passes.derive.unify import unified
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.stages import free_iters


class MergeTerms:
    """Factors what is computed out of products that differ in constants alone, which are added up before.

    ``A x + B x`` is ``(A + B) x``: a low-rank correction of a weight, two layers side by side, a skip connection around
    a linear layer. Numerics: reassociating.

    Given::

        y: f32[9,8] = L[i:9,j:8] sum[k:7]{ x[i,k] * w[k,j] } + sum[k:7,r:2]{ x[i,k] * a[k,r] * b[r,j] }

    Result::

        y.sum: f32[7,8] = L[k:7,j:8] w[k,j] + sum[r:2]{ a[k,r] * b[r,j] }
        y: f32[9,8] = L[i:9,j:8] sum[k:7]{ x[i,k] * y.sum[k,j] }
    """

    name = "MergeTerms"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form with such products merged, or why there are none."""
        groups: list[list[tuple[Product, dict[Iter, Iter]]]] = []
        alone: list[Product] = []
        for product in form.polynomial:
            dynamic, constants = parts(form, product)
            if not dynamic or not any(tensors_read(c) for c in constants):
                alone.append(product)
                continue
            home = None
            for group in groups:
                same = unified(dynamic, parts(form, group[0][0])[0], frozenset(form.loops))
                if same is not None:
                    group.append((product, same))
                    home = group
                    break
            if home is None:
                groups.append([(product, {i: i for i in product.summed})])
        if all(len(g) == 1 for g in groups):
            return Refusal("no two products differ in constants alone")
        for group in groups:
            if len(group) == 1:
                alone.append(group[0][0])
            else:
                form, merged = _merged(form, group, builder)
                alone.append(merged)
        return replace(form, polynomial=tuple(alone))


def parts(form: Form, product: Product) -> tuple[tuple[Scalar, ...], tuple[Scalar, ...]]:
    """The factors that are computed, and those known before the program runs."""
    fixed = form.constants
    constants = tuple(f for f in product.factors if all(t in fixed for t in tensors_read(f)))
    return tuple(f for f in product.factors if f not in constants), constants


def _merged(form: Form, group: list[tuple[Product, dict[Iter, Iter]]], builder: Builder) -> tuple[Form, Product]:
    lead = group[0][0]
    dynamic, _ = parts(form, lead)
    linked = {i for f in dynamic for i in free_iters(f)} | set(form.loops)
    terms: list[Scalar] = []
    scope: dict[Iter, None] = {}
    for product, mapping in group:
        _, constants = parts(form, product)
        moved = tuple(substitute_iters(c, dict(mapping.items())) for c in constants)
        own = dict.fromkeys(i for c in moved for i in free_iters(c))
        scope.update(dict.fromkeys(i for i in own if i in linked))
        summed = tuple(i for i in own if i not in linked)
        terms.append(total(summed, multiplied(moved, form.region.pivot)))
    loops = tuple(sorted(scope, key=lambda i: i in form.loops))
    name = builder.name(f"{form.region.name}.sum")
    out = Tensor(name, tuple(i.extent for i in loops), form.region.pivot.dtype)
    stage = Compute((out,), loops, (Apply("add", tuple(terms)),))
    read = {i for f in dynamic for i in free_iters(f)} | set(loops)
    product = Product(tuple(i for i in lead.summed if i in read), (*dynamic, out.at(loops)))
    return replace(form, prelude=(*form.prelude, stage)), product
