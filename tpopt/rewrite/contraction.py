"""Contractions: stages that hold one sum of products, whatever operator they came from."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from tpopt.ir import Apply, Compute, Index, Iter, Read, Reduce, Scalar, Select, Tensor, index, postorder
from tpopt.ir.walk import is_literal
from tpopt.rewrite.affine import Affine, affine_in
from tpopt.rewrite.rule import Refusal


@dataclass(frozen=True)
class Contraction:
    """``out[loops] = form(sum[summed]{ product of factors })``; ``form`` is affine, or the reason why it is not."""

    out: Tensor
    loops: tuple[Iter, ...]
    summed: tuple[Iter, ...]
    factors: tuple[Scalar, ...]
    form: Affine | Refusal

    def weights(self, constants: Container[Tensor]) -> tuple[tuple[Scalar, Read], ...]:
        """The factors that read a constant tensor, perhaps under a guard with zero outside, and their reads."""
        found = ((f, f.inside if _is_guarded(f) and isinstance(f, Select) else f) for f in self.factors)
        return tuple((f, read) for f, read in found if isinstance(read, Read) and read.tensor in constants)


def _is_guarded(factor: Scalar) -> bool:
    return isinstance(factor, Select) and is_literal(factor.outside, 0)


def contraction(stage: Compute) -> Contraction | None:
    """Recognises a Compute with one output and one reduction, the sum of a product of two factors or more."""
    if len(stage.outs) != 1:
        return None
    sums = [t for t in postorder(stage.bodies[0]) if isinstance(t, Reduce)]
    if len(sums) != 1 or sums[0].monoid != "sum":
        return None
    factors = factors_of(sums[0].bodies[0])
    if len(factors) < 2:
        return None
    return Contraction(stage.outs[0], stage.loops, sums[0].iters, factors, affine_in(stage.bodies[0], sums[0]))


def read_once(read: Read, scope: Sequence[Iter]) -> tuple[Index, ...] | None:
    """Where a read visits each element at most once as ``scope`` runs: its indices, else ``None``.

    Each index is an iterator of the scope, another one for each axis, or 0 on an axis of extent 1, for which an unused
    iterator of extent 1 is put where there is one. Iterators of extent 1 alone may be left over.
    """
    left = list(scope)
    places: list[Index] = []
    for where, extent in zip(read.indices, read.tensor.shape, strict=True):
        own = next((i for i in left if where is index(i)), None)
        if own is None and not (extent == 1 and where.constant == 0):
            return None
        if own is not None:
            left.remove(own)
        places.append(where)
    if any(i.extent != 1 for i in left):
        return None
    for axis, where in enumerate(places):
        if where.constant == 0 and left:
            places[axis] = index(left.pop(0))
    return tuple(places)


def factors_of(product: Scalar) -> tuple[Scalar, ...]:
    """The factors of a product, nested products opened, in order."""
    found: list[Scalar] = []
    pending = [product]
    while pending:
        term = pending.pop()
        if isinstance(term, Apply) and term.function == "mul":
            pending.extend(reversed(term.args))
        else:
            found.append(term)
    return tuple(found)


def axis_of(read: Read, iterator: Iter) -> int | None:
    """The axis of a tensor that an iterator runs over alone and whole: ``w[i,k]`` has ``k`` at 1; ``None`` if none."""
    for axis, where in enumerate(read.indices):
        if where is index(iterator) and read.tensor.shape[axis] == iterator.extent:
            return axis
    return None
