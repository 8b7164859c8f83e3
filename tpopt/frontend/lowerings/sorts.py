"""Sorting, the largest few, order statistics."""

from __future__ import annotations

from tpopt.frontend.context import Context, axis
from tpopt.frontend.lowerings.gathers import looked_up
from tpopt.frontend.lowerings.reductions import Reduced, reduced
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.shapes import reshaped
from tpopt.ir import (
    DType,
    Iter,
    Scalar,
    Size,
    Sort,
    Tensor,
    TopK,
    apply,
    cast,
    const,
    index,
    position,
    reduce,
    size,
    where,
)
from tpopt.ir.index import IndexLike, product

lowers = Lowerings()


def _zero_position(ctx: Context) -> Tensor:
    return ctx.compute((), lambda: const(0, DType.I64), "position")


def _sorted(ctx: Context, x: Tensor, along: int, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Values in order and where they come from."""
    values, indices = ctx.fresh(x.shape, x.dtype, "sorted"), ctx.fresh(x.shape, DType.I64, "order")
    ctx.add(Sort(values, indices, x, along, descending, stable=True))
    return values, indices


@lowers("aten.sort.default", "aten.msort.default")
def sort(ctx: Context, x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, ...]:
    """Values in order along an axis, and their positions."""
    if ctx.target == "aten.msort.default":
        return (_sorted(ctx, x, 0)[0],) if x.rank else (x,)
    return _sorted(ctx, x, axis(dim, x.rank), descending) if x.rank else (x, _zero_position(ctx))


@lowers("aten.sort.stable")
def stable_sort(
    ctx: Context, x: Tensor, _stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, ...]:
    """The same; ours is always stable."""
    return sort(ctx, x, dim, descending)


@lowers("aten.argsort.default")
def argsort(ctx: Context, x: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    """Positions of the values in order."""
    return _sorted(ctx, x, axis(dim, x.rank), descending)[1] if x.rank else _zero_position(ctx)


@lowers("aten.argsort.stable")
def stable_argsort(ctx: Context, x: Tensor, _stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    """The same; ours is always stable."""
    return argsort(ctx, x, dim, descending)


@lowers("aten.topk.default")
def top(
    ctx: Context, x: Tensor, k: IndexLike, dim: int = -1, largest: bool = True, in_order: bool = True
) -> tuple[Tensor, ...]:
    """The ``k`` largest (or smallest) values along an axis, and their positions."""
    if not x.rank:
        if index(k).constant != 1:
            raise ctx.refuse("none of the values of a 0-d tensor")
        return x, _zero_position(ctx)
    along = axis(dim, x.rank)
    shape: list[Size] = [size(k) if a == along else n for a, n in enumerate(x.shape)]
    values, indices = ctx.fresh(shape, x.dtype, "top"), ctx.fresh(shape, DType.I64, "positions")
    ctx.add(TopK(values, indices, x, size(k), along, largest, in_order))
    return values, indices


def _pick(ctx: Context, over: Reduced, tensor: Tensor, where_: IndexLike) -> Tensor:
    """``tensor[where]`` along the reduced axis."""
    (along,) = over.along

    def body(*i: Iter) -> Scalar:
        at: list[IndexLike] = list(i)
        if not over.keep:
            at.insert(along, where_)
        else:
            at[along] = where_
        return tensor.at(at)

    return ctx.compute(over.shape, body)


@lowers("aten.kthvalue.default")
def kth_value(ctx: Context, x: Tensor, k: IndexLike, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, ...]:
    """The ``k``-th smallest value along an axis, counted from 1, and its position."""
    if not x.rank:
        return x, _zero_position(ctx)
    over = reduced(x, dim, keepdim)
    values, indices = _sorted(ctx, x, over.along[0])
    return _pick(ctx, over, values, index(k) - 1), _pick(ctx, over, indices, index(k) - 1)


@lowers("aten.median.dim")
def median_over(ctx: Context, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor | None, ...]:
    """The lower of the middle values along an axis and its position; NaN, and where the first is, when there is one."""
    if not x.rank:
        return x, _zero_position(ctx)
    over = reduced(x, dim, keepdim)
    (along,) = over.along
    extent = index(x.shape[along])
    values, indices = _sorted(ctx, x, along)
    middle, last = _pick(ctx, over, values, (extent - 1) // 2), _pick(ctx, over, values, extent - 1)
    chosen = _pick(ctx, over, indices, (extent - 1) // 2)
    if not x.dtype.is_float:
        return middle, chosen
    value = ctx.compute(over.shape, lambda *i: where(apply("isnan", last.at(i)), last.at(i), middle.at(i)))
    if not ctx.used[1]:
        return value, None

    def first_nan(*i: Iter) -> Scalar:
        return reduce("argmax", over.iters, over.read(i), position(over.iters[0]), pick=1)

    return value, ctx.compute(over.shape, lambda *i: where(apply("isnan", last.at(i)), first_nan(*i), chosen.at(i)))


@lowers("aten.median.default")
def median(ctx: Context, x: Tensor) -> Tensor:
    """The lower of the middle values of everything; NaN when there is one."""
    if not x.rank:
        return x
    count = product(x.shape)
    flat = ctx.compute((count,), lambda k: x.at(reshaped((k,), (count,), x.shape)), "flat")
    values, _ = _sorted(ctx, flat, 0)
    last = index(count) - 1

    def body() -> Scalar:
        middle = values[last // 2]
        return where(apply("isnan", values[last]), values[last], middle) if x.dtype.is_float else middle

    return ctx.compute((), body)


@lowers("aten.nanmedian.dim")
def nan_median_over(ctx: Context, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor | None, ...]:
    """The lower of the middle values that are not NaN along an axis and its position; NaN where all are."""
    if not x.rank or not x.dtype.is_float:
        return median_over(ctx, x, dim, keepdim)
    over = reduced(x, dim, keepdim)
    (along,) = over.along
    values, indices = _sorted(ctx, x, along)

    def middle(*i: Iter) -> Scalar:
        known = cast(apply("not", apply("isnan", over.read(i))), DType.I64)
        return apply("max", apply("floordiv", reduce("sum", over.iters, known) - 1, 2), 0)

    places = ctx.compute(over.shape, middle, "middle")

    def at(*i: Iter) -> list[IndexLike]:
        found = looked_up(places, i, x.shape[along])
        outer = iter(k for a, k in enumerate(i) if not over.keep or a != along)
        return [found if a == along else next(outer) for a in range(x.rank)]

    return tuple(ctx.compute(over.shape, lambda *i, t=t: t.at(at(*i))) for t in (values, indices))


@lowers("aten.nanmedian.default")
def nan_median(ctx: Context, x: Tensor) -> Tensor | None:
    """The lower of the middle values of everything that is not NaN."""
    if not x.rank:
        return x
    count = product(x.shape)
    flat = ctx.compute((count,), lambda k: x.at(reshaped((k,), (count,), x.shape)), "flat")
    return nan_median_over(ctx, flat, 0)[0]


@lowers("aten.mode.default", "aten.searchsorted.Tensor", "aten.bucketize.Tensor")
def by_search(ctx: Context, *_arguments: object) -> Tensor:
    """Operators whose linear or logarithmic work has no closed form as stages."""
    raise ctx.refuse(f"{ctx.target} searches sorted values, which as algebra would cost more than torch's search")
