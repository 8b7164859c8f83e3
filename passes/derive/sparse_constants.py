"""Constants that are mostly zero: lists of what is not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tpopt.ir import Builder, Compute, DType, Index, Iter, Lookup, Read, Scalar, Select, Tensor, index, postorder
from tpopt.ir.index import Atom, IndexLike, walk_atoms
from tpopt.ir.program import Array
from tpopt.passes.derive.form import Form
from tpopt.passes.derive.products import Product, uses
from tpopt.rewrite import Numerics, Refusal

DENSITY = 0.35
"""Share of elements that are not zero above which a constant is taken as it is: a list costs more for each."""
MOST_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class _Sparse:
    """A constant factor by its values, its axes apart: those that are summed, and those that the result keeps."""

    read: Read
    values: Array
    summed: tuple[Iter, ...]
    kept: tuple[Iter, ...]


class SparseConstants:
    """Replaces a sum over all elements of a constant with a sum over a list of those that are not zero.

    Each point of the axes that the result keeps has a list, all as long as the longest: what is missing is a zero at
    place 0. The other factors are read where the list says. The constant is recognised by its values, whatever it was
    made as (a Clebsch-Gordan or Gaunt tensor, a mask, a graph). Numerics: reassociating (the zeros that are no longer
    added change no finite number).

    Given::

        y: f32[9,4] = L[u:9,k:4] sum[i:8]{ c[i,k] * x[u,i] }

    Result::

        y.listed: f32[4,9] = L[k:4,u:9] sum[q:2]{ c.values[k,q] * x[u,c.places[k,q,0]{0:8}] }
        y: f32[9,4] = L[u:9,k:4] y.listed[k,u]
    """

    name = "SparseConstants"
    numerics = Numerics.REASSOCIATING

    def run(self, form: Form, builder: Builder) -> Form | Refusal:
        """The form with lists in place of sparse constants, or why it has none."""
        reason = "no constant factor is read plainly along summed axes"
        for number, product in enumerate(form.polynomial):
            for factor in product.factors:
                found = _sparse(factor, product, form)
                if isinstance(found, _Sparse):
                    return _listed(form, number, found, builder)
                reason = reason if found is None else found.reason
        return Refusal(reason)


def _sparse(factor: Scalar, product: Product, form: Form) -> _Sparse | Refusal | None:
    if not isinstance(factor, Read) or factor.tensor.name not in form.region.values:
        return None
    values = form.region.values[factor.tensor.name]
    iterators = [a for w in factor.indices for a in w.atoms if isinstance(a, Iter) and w is index(a)]
    if len(set(iterators)) != factor.tensor.rank or values.dtype.kind != "f" or values.size > MOST_ELEMENTS:
        return None
    if tuple(i.extent for i in iterators) != values.shape:
        return None
    summed = tuple(i for i in iterators if i in product.summed)
    others = [f for f in product.factors if f is not factor]
    if not summed or not any(uses(f, i) for f in others for i in summed):
        return None
    if any(_guards(f, i) for f in others for i in summed):
        return Refusal(f"{factor.tensor.name}: a guard depends on what the list would enumerate")
    density = np.count_nonzero(values) / max(values.size, 1)
    if density > DENSITY:
        return Refusal(f"{factor.tensor.name}: {density:.0%} of its elements are not zero, more than {DENSITY:.0%}")
    kept = tuple(i for i in iterators if i not in summed)
    order = [iterators.index(i) for i in (*kept, *summed)]
    return _Sparse(factor, values.transpose(order), summed, kept)


def _guards(factor: Scalar, iterator: Iter) -> bool:
    bounds = [b for t in postorder(factor) if isinstance(t, Select) for b in t.guard.bounds]
    return any(iterator in walk_atoms(w) for b in bounds for w in (b.low, b.value, b.high))


def _listed(form: Form, number: int, sparse: _Sparse, builder: Builder) -> Form | Refusal:
    product, base = form.polynomial[number], sparse.read.tensor
    lists, places = _lists(sparse)
    if lists.size > DENSITY * 2 * sparse.values.size:
        return Refusal(f"{base.name}: the longest list has {lists.shape[-1]} elements, so that little is saved")
    values = Tensor(builder.name(f"{base.name}.values"), lists.shape, base.dtype)
    table = Tensor(builder.name(f"{base.name}.places"), places.shape, DType.I64)
    entry = Iter(builder.name("q"), lists.shape[-1])
    at = (*map(index, sparse.kept), index(entry))
    mapping: dict[Atom, IndexLike] = {
        i: Lookup(table, (*at, index(n)), index(0), index(i.extent)) for n, i in enumerate(sparse.summed)
    }
    others = tuple(f for f in product.factors if f is not sparse.read)
    stages, turned = _turned(others, sparse.summed, form, builder)
    moved = Product((), turned).moved(mapping).factors
    summed = (*(i for i in product.summed if i not in sparse.summed), entry)
    listed = Product(summed, (values.at((*sparse.kept, entry)), *moved))
    polynomial = (*form.polynomial[:number], listed, *form.polynomial[number + 1 :])
    loops = form.loops
    first = tuple(i for i in loops if i in sparse.kept)
    return replace(
        form, polynomial=polynomial, prelude=(*form.prelude, *stages),
        tables={**form.tables, base.name: form.region.values[base.name], values.name: lists, table.name: places},
        new_weights=(*form.new_weights, values, table), order=(*first, *(i for i in loops if i not in first)),
    )  # fmt: skip


def _lists(sparse: _Sparse) -> tuple[Array, Array]:
    """Values ``[kept..., entry]`` and places ``[kept..., entry, axis]`` of the elements that are not zero."""
    depth = len(sparse.kept)
    shape, inner = sparse.values.shape[:depth], sparse.values.shape[depth:]
    flat = sparse.values.reshape((-1, int(np.prod(inner))))
    longest = max(1, int(np.count_nonzero(flat, axis=1).max(initial=1)))
    values = np.zeros((len(flat), longest), sparse.values.dtype)
    places = np.zeros((len(flat), longest, len(inner)), np.int64)
    for row, line in enumerate(flat):
        (found,) = np.nonzero(line)
        values[row, : len(found)] = line[found]
        places[row, : len(found)] = np.stack(np.unravel_index(found, inner), axis=-1)
    return values.reshape((*shape, longest)), places.reshape((*shape, longest, len(inner)))


def _turned(
    factors: tuple[Scalar, ...], listed: tuple[Iter, ...], form: Form, builder: Builder
) -> tuple[list[Compute], tuple[Scalar, ...]]:
    """Factors whose last axis the list enumerates, laid out so that it comes first: rows are then read as a whole."""
    stages: list[Compute] = []
    found: list[Scalar] = []
    for factor in factors:
        last = factor.indices[-1] if isinstance(factor, Read) and factor.tensor.rank > 1 else None
        axis = next((i for i in listed if last is index(i)), None)
        if axis is None or not isinstance(factor, Read) or factor.tensor in form.constants:
            found.append(factor)
            continue
        loops = tuple(Iter(f"i{n}", e) for n, e in enumerate((factor.tensor.shape[-1], *factor.tensor.shape[:-1])))
        out = Tensor(builder.name(f"{factor.tensor.name}.turned"), tuple(i.extent for i in loops), factor.dtype)
        stages.append(Compute((out,), loops, (factor.tensor.at((*loops[1:], loops[0])),)))
        where: list[Index] = [index(axis), *factor.indices[:-1]]
        found.append(out.at(where))
    return stages, tuple(found)
