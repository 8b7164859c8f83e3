"""Products that sum over different parts of a range, with other constants in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tpopt.ir import Builder, Compute, Iter, Scalar, Tensor, guard, index, select, tensors_read
from tpopt.ir.index import Atom, IndexLike
from tpopt.ir.walk import substitute_iters
from tpopt.passes.derive.form import Form
from tpopt.passes.derive.merge_terms import parts
from tpopt.passes.derive.products import Product
from tpopt.passes.derive.unify import unified
from tpopt.rewrite import Numerics, Refusal
from tpopt.rewrite.stages import free_iters


class JoinSums:
    """Joins products that differ in one summed iterator and its constants into one sum over both ranges.

    ``A x + B x`` with ``A = U C``, ``B = V D`` is ``[U V] [C; D] x``: what the products have in common is computed
    once, what differs lies side by side in constants put together before. The two corners of a spectrum that a Fourier
    layer keeps are such products. Numerics: reassociating.

    Given::

        y: f32[9,8] = L[i:9,j:8] sum[k:7,r:2]{ x[i,k] * a[k,r] * b[r,j] } + sum[k:7,s:3]{ x[i,k] * c[k,s] * d[s,j] }

    Result::

        y.cat: f32[7,5] = L[k:7,r:5] select(0 <= r < 2, a[k,r], c[k,r-2])
        y.cat_1: f32[8,5] = L[j:8,r:5] select(0 <= r < 2, b[r,j], d[r-2,j])
        y: f32[9,8] = L[i:9,j:8] sum[k:7,r:5]{ x[i,k] * y.cat[k,r] * y.cat_1[j,r] }
    """

    name = "JoinSums"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form with such products joined, or why there are none."""
        left, joined = list(form.polynomial), list[Product]()
        while left:
            product = left.pop(0)
            for other in tuple(left):
                found = _joined(form, product, other, builder)
                if found is not None:
                    form, product = found
                    left.remove(other)
            joined.append(product)
        if len(joined) == len(form.polynomial):
            return Refusal("no two products differ in one summed iterator and its constants")
        return replace(form, polynomial=tuple(joined))


def _joined(form: Form, one: Product, other: Product, builder: Builder) -> tuple[Form, Product] | None:
    """The form with the constants of both put together, and one product for two; ``None`` where they differ more."""
    fixed = frozenset(form.loops)
    dynamic, constants = parts(form, one)
    theirs, their_constants = parts(form, other)
    mapping = unified(theirs, dynamic, fixed) if dynamic else None
    if mapping is None:
        return None
    shared, mine, yours, mapping = _in_common(constants, their_constants, fixed, mapping)
    own = [i for i in one.summed if i not in mapping.values()]
    foreign = [i for i in other.summed if i not in mapping]
    if len(own) != 1 or len(foreign) != 1:
        return None
    (first,), (second,) = own, foreign
    if not isinstance(first.extent, int) or not isinstance(second.extent, int):
        return None
    pairs = _paired(mine, [substitute_iters(f, dict(mapping.items())) for f in yours], first, second)
    if not pairs:
        return None
    both = Iter(builder.name(f"{first.name}j"), first.extent + second.extent)
    kept: list[Scalar] = [*dynamic, *shared]
    stages = []
    for a, b in pairs:
        stage, read = _side_by_side(form, a, b, first, second, both, builder)
        stages.append(stage)
        kept.append(read)
    summed = tuple(both if i is first else i for i in one.summed)
    return replace(form, prelude=(*form.prelude, *stages)), Product(summed, tuple(kept))


def _in_common(
    constants: Sequence[Scalar], others: Sequence[Scalar], fixed: frozenset[Iter], mapping: Mapping[Iter, Iter]
) -> tuple[list[Scalar], list[Scalar], list[Scalar], dict[Iter, Iter]]:
    """Constant factors that both have, those of either alone, and which iterator of the other is which."""
    shared, mine, yours, known = list[Scalar](), list(constants), list[Scalar](), dict(mapping)
    for factor in others:
        for candidate in mine:
            found = unified((factor,), (candidate,), fixed, known)
            if found is not None:
                shared.append(candidate)
                mine.remove(candidate)
                known = found
                break
        else:
            yours.append(factor)
    return shared, mine, yours, known


def _paired(
    mine: Sequence[Scalar], yours: Sequence[Scalar], first: Iter, second: Iter
) -> list[tuple[Scalar, Scalar]] | None:
    """Factors to be put side by side: of the same iterators but for the joined one, of the same tensors first."""
    left, pairs = list(yours), []
    if len(mine) != len(yours):
        return None
    for factor in sorted(mine, key=lambda f: not any(tensors_read(f))):
        around = set(free_iters(factor)) - {first}
        alike = [f for f in left if set(free_iters(f)) - {second} == around and f.dtype is factor.dtype]
        if not alike:
            return None
        same = [f for f in alike if tensors_read(f) == tensors_read(factor)]
        match = (same or alike)[0]
        left.remove(match)
        pairs.append((factor, match))
    return pairs


def _side_by_side(
    form: Form, one: Scalar, other: Scalar, first: Iter, second: Iter, both: Iter, builder: Builder
) -> tuple[Compute, Scalar]:
    """The stage that puts two constant factors together along ``both``, and the factor that reads it."""
    loops = (*(i for i in free_iters(one) if i is not first), both)
    moves: Mapping[Atom, IndexLike] = {first: index(both)}
    their_moves: Mapping[Atom, IndexLike] = {second: both - first.extent}
    value = select(
        guard((0, index(both), first.extent)), substitute_iters(one, moves), substitute_iters(other, their_moves)
    )
    out = Tensor(builder.name(f"{form.region.name}.cat"), tuple(i.extent for i in loops), one.dtype)
    return Compute((out,), loops, (value,)), out.at(loops)
