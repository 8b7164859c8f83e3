"""Einstein summation, and what is written with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tpopt.frontend.context import Context, broadcast
from tpopt.frontend.numerics import products, wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Scalar, Size, Tensor, apply, cast, index
from tpopt.ir.index import Index

lowers = Lowerings()


@dataclass(frozen=True)
class Operand:
    """A tensor and one label for each of its axes; a label twice means the diagonal."""

    tensor: Tensor
    labels: tuple[str, ...]

    def varying(self) -> tuple[str, ...]:
        """Labels along which the tensor does not broadcast, each once."""
        return tuple(dict.fromkeys(l for l, n in zip(self.labels, self.tensor.shape, strict=True) if n != 1))

    def read(self, at: dict[str, Iter]) -> Scalar:
        """The element where each label has its iterator's value; axes of extent 1 broadcast."""
        where = [index(0) if n == 1 else index(at[l]) for l, n in zip(self.labels, self.tensor.shape, strict=True)]
        return self.tensor.at(where)


def _axes(term: str, rank: int) -> tuple[str, ...]:
    """Labels of a term: letters stand for themselves, the ellipsis for ``.1 .0`` (counted from the last)."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return (*before, *(f".{k}" for k in range(hidden - 1, -1, -1)), *after)


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[Operand], tuple[str, ...]]:
    """Labelled operands, and the labels of the result.

    Left out, these are the hidden axes, then the letters that appear once, sorted.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    parsed = [Operand(t, _axes(term, t.rank)) for term, t in zip(left.split(","), operands, strict=True)]
    every = [l for o in parsed for l in o.labels]
    hidden = sorted({l for l in every if l.startswith(".")}, key=lambda l: -int(l[1:]))
    if arrow:
        before, dots, after = right.partition("...")
        return parsed, (*before, *(hidden if dots else ()), *after)
    letters = left.replace(".", "").replace(",", "")
    return parsed, (*hidden, *(l for l in sorted(set(letters)) if letters.count(l) == 1))


class _Contraction:
    """Writes the stages of one Einstein sum."""

    def __init__(self, ctx: Context, operands: Iterable[Operand]) -> None:
        self.ctx = ctx
        self.extents: dict[str, Size] = {}
        for operand in operands:
            for label, extent in zip(operand.labels, operand.tensor.shape, strict=True):
                if self.extents.get(label, 1) == 1:
                    self.extents[label] = extent

    def one(self, operands: Sequence[Operand], result: tuple[str, ...]) -> Operand:
        """One stage: the product of all operands, summed over every label that ``result`` lacks."""
        dtype = self.ctx.dtype
        varying = dict.fromkeys(l for o in operands for l in o.varying())
        summed = {l: Iter(f"k{n}", self.extents[l]) for n, l in enumerate(l for l in varying if l not in result)}

        def body(*i: Iter) -> Scalar:
            at = {**summed, **dict(zip(result, i, strict=True))}
            return cast(products(dtype, tuple(summed.values()), *(o.read(at) for o in operands)), dtype)

        return Operand(self.ctx.compute([self.extents[l] for l in result], body), result)

    def alone(self, operand: Operand, kept: Iterable[str]) -> Operand:
        """Sums over the labels that nothing else needs before anything is multiplied with the operand."""
        needed = dict.fromkeys(kept)
        varying = operand.varying()
        remaining = tuple(l for l in varying if l in needed)
        return operand if len(remaining) == len(varying) else self.one([operand], remaining)

    def two(self, a: Operand, b: Operand, others: Iterable[str], result: tuple[str, ...] | None = None) -> Operand:
        """Contracts a pair; ``others`` are the labels that are still needed, ``result`` the order of the last stage."""
        needed = dict.fromkeys(others)
        a, b = self.alone(a, [*needed, *b.varying()]), self.alone(b, [*needed, *a.varying()])
        kept = tuple(l for l in dict.fromkeys((*a.varying(), *b.varying())) if l in needed)
        return self.one([a, b], kept if result is None else result)


def contract(
    ctx: Context, operands: Sequence[Operand], result: tuple[str, ...], path: Sequence[tuple[int, int]] | None = None
) -> Tensor:
    """The Einstein sum in pairs: along ``path`` (positions; a product goes to the end), else from left to right."""
    writer, left = _Contraction(ctx, operands), list(operands)
    steps = list(path) if path else [(0, 1)] * (len(left) - 1)
    for i, j in steps:
        pair = [left[i], left[j]]
        left = [o for k, o in enumerate(left) if k not in (i, j)]
        others = (*result, *(l for o in left for l in o.varying()))
        product = writer.two(pair[0], pair[1], others, result if not left else None)
        left = [*left, product] if path else [product, *left]
    return left[0].tensor if len(operands) > 1 else writer.one(left, result).tensor


@lowers("aten.einsum.default")
def einsum(ctx: Context, equation: str, operands: Sequence[Tensor], path: Sequence[int] | None = None) -> Tensor:
    """All forms: ellipsis, repeated labels, implicit results, broadcasting along extents of 1."""
    parsed, result = _parse(equation, operands)
    pairs = None if path is None else [(i, j) for i, j in list(pairwise(path))[::2]]
    return contract(ctx, parsed, result, pairs)


@lowers("aten.tensordot.default")
def tensordot(ctx: Context, a: Tensor, b: Tensor, dims_a: Sequence[int], dims_b: Sequence[int]) -> Tensor:
    """``sum`` over pairs of axes of ``a`` and ``b``; the free axes of ``a``, then those of ``b``."""
    pairs = dict(zip((d % b.rank for d in dims_b), (d % a.rank for d in dims_a), strict=True))
    left = tuple(f"a{d}" for d in range(a.rank))
    right = tuple(f"a{pairs[d]}" if d in pairs else f"b{d}" for d in range(b.rank))
    summed = {f"a{d}" for d in pairs.values()}
    result = tuple(l for l in (*left, *right) if l not in summed)
    return contract(ctx, [Operand(a, left), Operand(b, right)], result)


@lowers("aten.bilinear.default")
def bilinear(ctx: Context, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``sum[i,j]{x[…,i] * weight[o,i,j] * y[…,j]} + bias[o]``; ``x`` meets the weight first."""
    batch = tuple(f"n{d}" for d in range(x.rank - 1))
    partial = _Contraction(ctx, [Operand(x, (*batch, "i")), Operand(weight, ("o", "i", "j"))]).one(
        [Operand(x, (*batch, "i")), Operand(weight, ("o", "i", "j"))], (*batch, "o", "j")
    )
    j = Iter("j", y.shape[-1])

    def body(*i: Iter) -> Scalar:
        where: list[Index] = [index(k) for k in i]
        value = products(ctx.dtype, (j,), partial.tensor.at([*where, index(j)]), y.at([*where[:-1], index(j)]))
        if bias is not None:
            value = apply("add", value, broadcast(bias, i, wide(ctx.dtype)))
        return cast(value, ctx.dtype)

    return ctx.pointwise(body)
