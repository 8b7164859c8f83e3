"""Sum over what two factors plainly share first, for all places that they may be read at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tpopt.ir import (
    Builder,
    Compute,
    Guard,
    Index,
    Iter,
    Read,
    Scalar,
    Select,
    Tensor,
    const,
    index,
    tensors_read,
    total,
)
from tpopt.ir.index import walk_atoms
from tpopt.ir.walk import is_literal
from tpopt.passes.derive.form import Form, multiplied
from tpopt.passes.derive.products import Product, read_of
from tpopt.rewrite import Numerics, Refusal


@dataclass(frozen=True)
class _Factor:
    """A read, perhaps under a guard, and the axis that the shared iterator runs over."""

    whole: Scalar
    read: Read
    shared: tuple[int, ...]

    @property
    def guard(self) -> Guard:
        return self.whole.guard if isinstance(self.whole, Select) else Guard(())

    @property
    def rest(self) -> tuple[int, ...]:
        """The other axes."""
        return tuple(n for n in range(self.read.tensor.rank) if n not in self.shared)


class SplitSummation:
    """Splits a sum of products into a matrix product of whole tensors and a sum of shifted reads of its result.

    Where two factors share summed iterators that run over an axis of each alone, those are summed first, for every
    place of the other axes of both: one GEMM. What is left of the sum adds elements of its result at the places where
    the factors were read. A convolution becomes a GEMM and offset adds, a transposed convolution a GEMM and selective
    adds, at exactly the taps that exist. Numerics: reassociating. Source: summation splitting of Zheng et al., "OLLIE"
    (2022).

    Given::

        y: f32[8,9] = L[f:8,h:9] sum[c:4,r:3]{ select(1 <= h+r < 10, x[c,h+r-1], 0.0) * w[f,c,r] }

    Result::

        y.products: f32[8,3,9] = L[f:8,r:3,u:9] sum[c:4]{ w[f,c,r] * x[c,u] }
        y: f32[8,9] = L[f:8,h:9] sum[r:3]{ select(1 <= h+r < 10, y.products[f,r,h+r-1], 0.0) }
    """

    name = "SplitSummation"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form with every such product split, or why none can be."""
        products, stages, reason = [], [], "no product has two factors"
        for product in form.polynomial:
            split = _split(product, form, builder)
            if isinstance(split, Refusal):
                reason = split.reason
                products.append(product)
            else:
                products.append(split[0])
                stages.append(split[1])
        if not stages:
            return Refusal(reason)
        return replace(form, polynomial=tuple(products), prelude=(*form.prelude, *stages))


def _split(product: Product, form: Form, builder: Builder) -> tuple[Product, Compute] | Refusal:
    plain = [f for f in product.factors if tensors_read(f)]
    literals = tuple(f for f in product.factors if not tensors_read(f))
    reads = [read_of(f) for f in plain]
    if len(plain) != 2 or any(r is None for r in reads):
        return Refusal("it is no product of two reads")
    shared = [i for i in product.summed if all(r is not None and _axis(r, i) is not None for r in reads)]
    if not shared:
        return Refusal("no summed iterator runs over an axis of both factors alone")
    one, other = (
        _Factor(f, r, tuple(a for a in (_axis(r, i) for i in shared) if a is not None))
        for f, r in zip(plain, reads, strict=True)
        if r is not None
    )
    if any(_mentions(f, shared) for f in (one, other)):
        return Refusal("a guard depends on what is summed first")
    if not any(_is_shifted(w) for f in (one, other) for w in f.read.indices):
        return Refusal("every axis is read plainly: the sum is a matrix product as it is")
    if tensors_read(one.whole)[0] not in form.constants:
        one, other = other, one
    return _written(product, (one, other), tuple(shared), literals, form, builder)


def _written(
    product: Product,
    pair: tuple[_Factor, _Factor],
    shared: tuple[Iter, ...],
    literals: tuple[Scalar, ...],
    form: Form,
    builder: Builder,
) -> tuple[Product, Compute]:
    """The product as a sum of reads of the matrix product, and the matrix product: weights' axes before the others'."""
    loops: list[Iter] = []
    places: list[Index] = []
    inner: list[Scalar] = []
    for factor in pair:
        indices = list(factor.read.indices)
        for axis in factor.rest:
            where = factor.read.indices[axis]
            known = where.constant
            if known is not None and factor.read.tensor.shape[axis] == 1:
                continue
            iterator = next((l for l, p in zip(loops, places, strict=True) if p is where and _same_run(l, where)), None)
            if iterator is None:
                iterator = Iter(builder.name("u"), factor.read.tensor.shape[axis])
                loops.append(iterator)
                places.append(where)
            indices[axis] = index(iterator)
        inner.append(Read(factor.read.tensor, tuple(indices)))
    dtype = form.region.pivot.dtype
    out = Tensor(builder.name(f"{form.region.name}.products"), tuple(i.extent for i in loops), dtype)
    stage = Compute((out,), tuple(loops), (total(shared, multiplied(tuple(inner), form.region.pivot)),))
    bounds = tuple(dict.fromkeys(b for f in pair for b in f.guard.bounds))
    ordered = tuple(sorted(bounds, key=lambda b: (b.value.text, b.low.text, b.high.text)))
    read: Scalar = out.at(places)
    value = Select(Guard(ordered), read, const(0, dtype)) if ordered else read
    return Product(tuple(i for i in product.summed if i not in shared), (*literals, value)), stage


def _same_run(iterator: Iter, where: Index) -> bool:
    """Whether an axis is read by one iterator alone and whole: then both factors may share it as a batch."""
    atom = where.atoms[0] if len(where.atoms) == 1 else None
    return isinstance(atom, Iter) and where is index(atom) and atom.extent == iterator.extent


def _axis(read: Read, iterator: Iter) -> int | None:
    """The axis that an iterator runs over alone and whole, if it appears nowhere else in the read."""
    found = [n for n, where in enumerate(read.indices) if iterator in walk_atoms(where)]
    if len(found) != 1 or read.indices[found[0]] is not index(iterator):
        return None
    return found[0] if read.tensor.shape[found[0]] == iterator.extent else None


def _mentions(factor: _Factor, shared: list[Iter]) -> bool:
    return any(
        i in walk_atoms(w) for b in factor.guard.bounds for w in (b.low, b.value, b.high) for i in shared
    ) or not (isinstance(factor.whole, Read) or is_literal(factor.whole.outside, 0))  # type: ignore[union-attr]


def _is_shifted(where: Index) -> bool:
    """Whether an index mixes iterators, or steps over them."""
    atom = where.atoms[0] if len(where.atoms) == 1 else None
    return where.constant is None and not (isinstance(atom, Iter) and where is index(atom))
