"""Writes at positions that are data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context, Operand, axis, broadcast
from tpopt.frontend.lowerings.gathers import indexed, looked_up, wrapping
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.shapes import is_empty
from tpopt.ir import DType, Guard, Index, Iter, Scalar, Scatter, Size, Tensor, apply, cast, const, index, iters, where
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import Number

lowers = Lowerings()


def scatter_stage(
    ctx: Context, base: Tensor, op: str, shape: Sequence[Size], at: Callable[..., Sequence[Index]],
    value: Callable[..., Scalar], guard: Guard | None = None,
) -> Tensor:  # fmt: skip
    """``base`` with ``op(at(i…), value(i…))`` done for every point of ``shape``, in row-major order."""
    if is_empty(shape):
        return base
    loops = iters("i", shape)
    out = ctx.fresh(base.shape, base.dtype)
    ctx.add(Scatter(out, base, op, loops, tuple(at(*loops)), value(*loops), guard))
    return out


@lowers("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(
    ctx: Context, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """``x`` with ``x[indices]`` replaced by ``values``, or added to.

    A mask is a choice where the values do not depend on how many elements it selects.
    """
    if any(i is not None and i.dtype in (DType.BOOL, DType.U8) for i in indices):
        return _masked_put(ctx, x, indices, values, accumulate)
    how = indexed(x, indices)
    op = "add" if accumulate else "set"
    return scatter_stage(ctx, x, op, how.shape, lambda *i: how.place(i), lambda *i: broadcast(values, i, x.dtype))


def _masked_put(ctx: Context, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool) -> Tensor:
    """``x[:, mask] = values`` with values that are the same for every selected element."""
    masks = [(a, m) for a, m in enumerate(indices) if m is not None]
    start, mask = masks[0]
    rest = x.rank - start - mask.rank
    if len(masks) > 1 or (start and values.rank > rest) or not _uniform(values, rest):
        raise ctx.refuse("writing through a mask: how many values it takes depends on data")

    def body(*i: Iter) -> Scalar:
        chosen = cast(mask.at(i[start : start + mask.rank]), DType.BOOL)
        trailing = i[len(i) - rest :] if rest else ()
        own = values.at([0] * (values.rank - rest)) if not rest else _trailing(values, trailing)
        value = cast(own, x.dtype)
        return where(chosen, apply("add", x.at(i), value) if accumulate else value, x.at(i))

    return ctx.pointwise(body)


def _uniform(values: Tensor, rest: int) -> bool:
    return all(n == 1 for n in values.shape[: max(values.rank - rest, 0)])


def _trailing(values: Tensor, loops: Sequence[Iter]) -> Scalar:
    own = loops[max(len(loops) - values.rank, 0) :]
    front = [index(0)] * (values.rank - len(own))
    extents = values.shape[len(front) :]
    return values.at([*front, *(index(0) if n == 1 else index(k) for k, n in zip(own, extents, strict=True))])


def at_positions(x: Tensor, dim: int, positions: Tensor) -> Callable[..., list[Index]]:
    """The target of ``scatter``: the axis where the index tensor says, the others in step with it."""
    along = axis(dim, x.rank)

    def at(*i: Iter) -> list[Index]:
        if not x.rank:
            return []
        found = looked_up(positions, i if positions.rank else (), x.shape[along])
        return [found if a == along else index(k) for a, k in _loops_or_zero(i)]

    return at


def _loops_or_zero(loops: Sequence[Iter]) -> list[tuple[int, IndexLike]]:
    """The loops by axis; one axis at 0 for a 0-d tensor."""
    return list(enumerate(loops)) if loops else [(0, 0)]


def element_of(source: Tensor, x: Tensor) -> Callable[..., Scalar]:
    """The source at the loops, in the type of ``x``."""

    def value(*i: Iter) -> Scalar:
        own: tuple[IndexLike, ...] = (*i, *(0 for _ in range(source.rank - len(i))))
        return cast(source.at(own if source.rank else ()), x.dtype)

    return value


@lowers("aten.scatter.src", "aten.scatter_add.default")
def scatter(ctx: Context, x: Tensor, dim: int, positions: Tensor, source: Tensor) -> Tensor:
    """``x`` with the source written (or added) where the index tensor says."""
    op = "add" if "scatter_add" in ctx.target else "set"
    return scatter_stage(ctx, x, op, positions.shape, at_positions(x, dim, positions), element_of(source, x))


@lowers("aten.scatter.value")
def scatter_value(ctx: Context, x: Tensor, dim: int, positions: Tensor, value: Number) -> Tensor:
    """``x`` with a number written where the index tensor says."""
    return scatter_stage(
        ctx, x, "set", positions.shape, at_positions(x, dim, positions), lambda *_i: const(value, x.dtype)
    )


_OLD_OPS = {"add": "add", "multiply": "mul"}


@lowers("aten.scatter.reduce")
def scatter_old_reduce(ctx: Context, x: Tensor, dim: int, positions: Tensor, source: Tensor, how: str) -> Tensor:
    """``x`` with the source added or multiplied in."""
    return scatter_stage(ctx, x, _OLD_OPS[how], positions.shape, at_positions(x, dim, positions), element_of(source, x))


@lowers("aten.scatter.value_reduce")
def scatter_value_reduce(ctx: Context, x: Tensor, dim: int, positions: Tensor, value: Number, how: str) -> Tensor:
    """``x`` with a number added or multiplied in."""
    at = at_positions(x, dim, positions)
    return scatter_stage(ctx, x, _OLD_OPS[how], positions.shape, at, lambda *_i: const(value, x.dtype))


@lowers("aten.index_add.default")
def index_add(ctx: Context, x: Tensor, dim: int, positions: Tensor, source: Tensor, alpha: Number = 1) -> Tensor:
    """``x[positions] += alpha*source`` along an axis."""

    def value(*i: Iter) -> Scalar:
        added = element_of(source, x)(*i)
        return added if alpha == 1 else apply("mul", added, alpha)

    return scatter_stage(ctx, x, "add", one_axis_loops(x, dim, positions), one_axis(x, dim, positions), value)


@lowers("aten.index_copy.default")
def index_copy(ctx: Context, x: Tensor, dim: int, positions: Tensor, source: Tensor) -> Tensor:
    """``x[positions] = source`` along an axis."""
    return scatter_stage(
        ctx, x, "set", one_axis_loops(x, dim, positions), one_axis(x, dim, positions), element_of(source, x)
    )


@lowers("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(ctx: Context, x: Tensor, dim: int, positions: Tensor, value: Operand) -> Tensor:
    """``x[positions] = value`` along an axis; negative positions count from the end."""
    at = one_axis(x, dim, positions, negative=True)
    return scatter_stage(ctx, x, "set", one_axis_loops(x, dim, positions), at, lambda *i: broadcast(value, i, x.dtype))


def one_axis_loops(x: Tensor, dim: int, positions: Tensor) -> list[Size]:
    """The extents of ``x`` with as many positions along one axis as are given."""
    along = axis(dim, x.rank)
    count: Size = positions.shape[0] if positions.rank else 1
    return [count if a == along else n for a, n in enumerate(x.shape or (1,))]


def one_axis(x: Tensor, dim: int, positions: Tensor, negative: bool = False) -> Callable[..., list[Index]]:
    """The target of ``index_add``: one axis where a vector of positions says."""
    along, find = axis(dim, x.rank), wrapping if negative else looked_up

    def at(*i: Iter) -> list[Index]:
        if not x.rank:
            return []
        found = find(positions, (i[along],) if positions.rank else (), x.shape[along])
        return [found if a == along else index(k) for a, k in enumerate(i)]

    return at


@lowers("aten.embedding_dense_backward.default")
def embedding_backward(
    ctx: Context, grad: Tensor, positions: Tensor, _rows: object, padding: int, by_frequency: bool
) -> Tensor:
    """Gradients added into the rows they were read from, but for the padding row."""
    if by_frequency:
        raise ctx.refuse("embedding gradients scaled by frequency are left to torch")
    zeros = ctx.pointwise(lambda *_i: const(0, ctx.dtype))

    def value(*i: Iter) -> Scalar:
        own = cast(grad.at(i), ctx.dtype)
        return own if padding < 0 else where(apply("eq", cast(positions.at(i[:-1]), DType.I64), padding), 0, own)

    def at(*i: Iter) -> list[Index]:
        return [looked_up(positions, i[:-1], ctx.out.shape[0]), index(i[-1])]

    return scatter_stage(ctx, zeros, "add", grad.shape, at, value)
