"""Sums of products: a pairwise contraction order, each pair as one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import opt_einsum
import torch
from torch import Tensor

from tpopt.ir.index import Iter
from tpopt.ir.terms import Apply, Const, Reduce, Scalar
from tpopt.ir.to_torch.lowering import Lowering, Named


def factors_of(term: Scalar) -> list[Scalar]:
    """Factors of a product, nested products flattened, in order."""
    found: list[Scalar] = []
    pending = [term]
    while pending:
        t = pending.pop()
        if isinstance(t, Apply) and t.function == "mul":
            pending.extend(reversed(t.args))
        else:
            found.append(t)
    return found


def is_contraction(term: Reduce) -> bool:
    """Whether a reduction is a sum of products over a field, with two factors that are no literals."""
    if term.monoid != "sum" or not (term.dtype.is_float or term.dtype.is_complex):
        return False
    return sum(not isinstance(f, Const) for f in factors_of(term.bodies[0])) >= 2


def contract(low: Lowering, factors: Sequence[Named], iters: Sequence[Iter]) -> Named:
    """``sum[iters]{ product of factors }``."""
    kept = low.order(a for f in factors for a in f.axes if a not in iters)
    repeats = prod(low.extents(i for i in iters if all(i not in f.axes for f in factors)))
    result = _pairs(low, list(factors), kept) if low.setting.fast else _einsum(low, list(factors), kept)
    return result if repeats == 1 else low.pointwise(lambda t: t * repeats, result)


def _einsum(low: Lowering, factors: list[Named], kept: tuple[Iter, ...]) -> Named:
    letters: dict[Iter, int] = {}
    for f in factors:
        for a in f.axes:
            letters.setdefault(a, len(letters))
    lists = [[letters[a] for a in f.axes] for f in factors]
    out = [letters[a] for a in kept]

    def run(*ts: Tensor) -> Tensor:
        operands: list[Any] = [x for t, axes in zip(ts, lists, strict=True) for x in (t, axes)]
        return torch.einsum(*operands, out)

    return low.emit(run, factors, kept)


def _pairs(low: Lowering, factors: list[Named], kept: tuple[Iter, ...]) -> Named:
    """Contracts two at a time, in the order that ``opt_einsum`` finds."""
    for left, right in _path(low, factors, kept):
        a, b = factors[left], factors[right]
        factors = [f for n, f in enumerate(factors) if n not in (left, right)]
        needed = {*kept, *(x for f in factors for x in f.axes)}
        factors.append(_pair(low, a, b, needed))
    return low.permute(_summed(low, factors[0], set(kept)), kept)


def _path(low: Lowering, factors: list[Named], kept: tuple[Iter, ...]) -> list[tuple[int, int]]:
    if len(factors) <= 2:
        return [(0, 1)] * (len(factors) - 1)
    numbers: dict[Iter, str] = {}
    for f in factors:
        for a in f.axes:
            numbers.setdefault(a, opt_einsum.get_symbol(len(numbers)))
    text = ",".join("".join(numbers[a] for a in f.axes) for f in factors)
    equation = f"{text}->{''.join(numbers[a] for a in kept)}"
    shapes = [low.extents(f.axes) for f in factors]
    steps, _ = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize="auto")
    pairs: list[tuple[int, int]] = []
    for step in steps:
        count = len(step)
        if count == 2:
            pairs.append((step[0], step[1]))
        elif count > 2:
            raise AssertionError(f"a contraction of {count} operands at once")
    return pairs


def _summed(low: Lowering, value: Named, needed: set[Iter]) -> Named:
    """Sums the axes that nobody else needs."""
    dims = tuple(d for d, a in enumerate(value.axes) if a not in needed)
    if not dims:
        return value
    return low.emit(lambda t: t.sum(dims), [value], tuple(a for a in value.axes if a in needed))


def _pair(low: Lowering, a: Named, b: Named, needed: set[Iter]) -> Named:
    """One contraction: a matrix product where an axis is summed, else a broadcast product."""
    a = _summed(low, a, needed | set(b.axes))
    b = _summed(low, b, needed | set(a.axes))
    summed = tuple(i for i in a.axes if i in b.axes and i not in needed)
    if not summed:
        return low.pointwise(torch.mul, a, b)
    both = tuple(i for i in a.axes if i in b.axes and i in needed)
    rows = tuple(i for i in a.axes if i not in b.axes)
    columns = tuple(i for i in b.axes if i not in a.axes)
    if not rows and not columns:
        return _dot(low, a, b, summed)
    if columns and (not rows or low.rank(columns[0]) < low.rank(rows[0])):
        a, b, rows, columns = b, a, columns, rows
    return _matmul(low, a, b, both, rows, summed, columns)


def _dot(low: Lowering, a: Named, b: Named, summed: tuple[Iter, ...]) -> Named:
    product = low.pointwise(torch.mul, a, b)
    dims = tuple(product.axes.index(i) for i in summed)
    return low.emit(lambda t: t.sum(dims), [product], tuple(i for i in product.axes if i not in summed))


def _matmul(
    low: Lowering,
    a: Named,
    b: Named,
    both: tuple[Iter, ...],
    rows: tuple[Iter, ...],
    summed: tuple[Iter, ...],
    columns: tuple[Iter, ...],
) -> Named:
    """``a[both, rows, summed] @ b[both, summed, columns]``; rows before every column may stay a batch of ``a``."""
    left = low.permute(a, (*both, *rows, *summed))
    outer: tuple[Iter, ...] = ()
    if columns and rows and low.rank(rows[-1]) > low.rank(columns[0]):
        outer = tuple(r for r in rows if all(low.rank(r) < low.rank(c) for c in columns))
        rows = rows[len(outer) :]
    right = low.permute(b, (*both, *summed, *columns))
    axes = (*both, *outer, *(columns if outer else rows), *(rows if outer else columns))
    run = _product(low, both, outer, rows, summed, columns)
    low.materialised(left)
    low.materialised(right)
    result = low.emit(run, [left, right], axes)
    return low.permute(result, low.order(axes))


def _product(
    low: Lowering,
    both: tuple[Iter, ...],
    outer: tuple[Iter, ...],
    rows: tuple[Iter, ...],
    summed: tuple[Iter, ...],
    columns: tuple[Iter, ...],
) -> Callable[[Tensor, Tensor], Tensor]:
    batch, over, m, k, n = (prod(low.extents(x)) for x in (both, outer, rows, summed, columns))
    shape = low.extents((*both, *outer, *(columns if outer else rows), *(rows if outer else columns)))

    def run(a: Tensor, b: Tensor) -> Tensor:
        if not both and not outer:
            return torch.matmul(a.reshape(m, k), b.reshape(k, n)).reshape(shape)
        if not outer:
            return torch.matmul(a.reshape(batch, m, k), b.reshape(batch, k, n)).reshape(shape)
        x = a.reshape(batch, over, m, k).transpose(-1, -2)
        w = b.reshape(batch, 1, k, n).transpose(-1, -2)
        return torch.matmul(w, x).reshape(shape)

    return run
