"""Recognises sums of products of two tensors: the algebra behind every GEMM and convolution."""

from __future__ import annotations

from dataclasses import dataclass

from tpopt.ir import Apply, Bound, Compute, Const, Index, Iter, Read, Reduce, Scalar, Select, Tensor, index


@dataclass(frozen=True)
class Factor:
    """One operand: a tensor, where it is read, and the bounds outside of which it counts as zero."""

    tensor: Tensor
    indices: tuple[Index, ...]
    bounds: tuple[Bound, ...] = ()

    def iterators(self) -> tuple[Iter, ...]:
        """Iterators its indices depend on, in order of the axes."""
        return tuple(dict.fromkeys(a for i in self.indices for a in i.atoms if isinstance(a, Iter)))


@dataclass(frozen=True)
class Contraction:
    """``out[loops] = sum[reduced]{ left * right } + bias``."""

    stage: Compute
    reduced: tuple[Iter, ...]
    left: Factor
    right: Factor
    bias: Read | None = None

    @property
    def out(self) -> Tensor:
        """The tensor it defines."""
        return self.stage.outs[0]

    @property
    def loops(self) -> tuple[Iter, ...]:
        """The output's iterators."""
        return self.stage.loops

    def swapped(self) -> Contraction:
        """The same with the operands exchanged."""
        return Contraction(self.stage, self.reduced, self.right, self.left, self.bias)


def match_contraction(stage: Compute) -> Contraction | str:
    """The contraction of a single-output Compute, or why it is none."""
    if len(stage.bodies) != 1:
        return "it has several outputs"
    term, bias = _split_bias(stage.bodies[0])
    if not isinstance(term, Reduce) or term.monoid != "sum":
        return "it is no sum"
    product, bounds = _unguard(term.bodies[0])
    if not isinstance(product, Apply) or product.function != "mul" or len(product.args) != 2:
        return "its body is no product of two factors"
    left, right = (_factor(a, bounds) for a in product.args)
    if left is None or right is None:
        return "a factor is no plain read of a tensor"
    if any(b not in left.bounds and b not in right.bounds for b in bounds):
        return "a bound of its product concerns neither factor alone"
    return Contraction(stage, term.iters, left, right, bias)


def _split_bias(body: Scalar) -> tuple[Scalar, Read | None]:
    if isinstance(body, Apply) and body.function == "add" and len(body.args) == 2:
        for term, other in (body.args, body.args[::-1]):
            if isinstance(term, Reduce) and isinstance(other, Read):
                return term, other
    return body, None


def _unguard(term: Scalar) -> tuple[Scalar, tuple[Bound, ...]]:
    if isinstance(term, Select) and isinstance(term.outside, Const) and term.outside.value == 0:
        return term.inside, term.guard.bounds
    return term, ()


def _factor(term: Scalar, outer: tuple[Bound, ...]) -> Factor | None:
    """A read with the bounds that concern it: its own, and those of the whole product on iterators it uses."""
    inner, bounds = _unguard(term)
    if not isinstance(inner, Read):
        return None
    used = {a for i in inner.indices for a in i.atoms}
    shared = tuple(b for b in outer if used.issuperset(b.value.atoms))
    return Factor(inner.tensor, inner.indices, (*bounds, *shared))


def plain_axes(factor: Factor) -> tuple[Iter | None, ...] | None:
    """The iterator of each axis where the tensor is read whole and unguarded, each axis by its own iterator.

    ``None`` stands for an axis of extent 1 read at 0. The result is ``None`` when the factor is read in another way.
    """
    if factor.bounds:
        return None
    axes: list[Iter | None] = []
    for where, extent in zip(factor.indices, factor.tensor.shape, strict=True):
        if extent == 1 and where.constant == 0:
            axes.append(None)
            continue
        atom = where.atoms[0] if len(where.atoms) == 1 else None
        if not isinstance(atom, Iter) or where is not index(atom) or index(atom.extent) is not index(extent):
            return None
        axes.append(atom)
    found = [a for a in axes if a is not None]
    return tuple(axes) if len(set(found)) == len(found) else None
