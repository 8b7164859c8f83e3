"""Parts of a tensor: slices, selections, splits, diagonals, and views by strides."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.frontend.context import Context, axis
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.shapes import is_empty, slice_start, wrapped
from tpopt.ir import Index, Iter, Scalar, Size, Tensor, const, guard, index, select, within
from tpopt.ir.build import unravel
from tpopt.ir.index import IndexLike, product

lowers = Lowerings()


def _at(loops: Sequence[Iter], along: int, where: IndexLike) -> list[Index]:
    """The loops with the place along one axis replaced."""
    return [index(where) if a == along else index(k) for a, k in enumerate(loops)]


@lowers("aten.slice.Tensor", "aten.slice_copy.Tensor")
def cut(
    ctx: Context, x: Tensor, dim: int = 0, start: IndexLike | None = None, _end: object = None, step: int = 1
) -> Tensor:
    """``x[start:end:step]`` along an axis."""
    along = axis(dim, x.rank)
    extent = ctx.out.shape[along]
    first = slice_start(start, x.shape[along], extent, step)
    if index(extent) is index(x.shape[along]):
        return x
    return ctx.pointwise(lambda *i: x.at(_at(i, along, first + i[along] * step)))


@lowers("aten.narrow.default", "aten.narrow_copy.default")
def narrow(ctx: Context, x: Tensor, dim: int, start: IndexLike, _length: object) -> Tensor:
    """``x[start:start+length]`` along an axis."""
    along = axis(dim, x.rank)
    first = wrapped(start, x.shape[along])
    return ctx.pointwise(lambda *i: x.at(_at(i, along, first + i[along])))


@lowers("aten.select.int", "aten.select_copy.int")
def pick(ctx: Context, x: Tensor, dim: int, position: IndexLike) -> Tensor:
    """``x[position]`` along an axis, which disappears."""
    along = axis(dim, x.rank)
    where = wrapped(position, x.shape[along])
    return ctx.pointwise(lambda *i: x.at([*i[:along], where, *i[along:]]))


@lowers(
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.split_copy.Tensor",
    "aten.split_with_sizes.default",
    "aten.split_with_sizes_copy.default",
    "aten.unsafe_split.Tensor",
    "aten.unsafe_split_with_sizes.default",
    "aten.chunk.default",
    "aten.unsafe_chunk.default",
    "aten.tensor_split.sections",
    "aten.tensor_split.indices",
)
def split(ctx: Context, x: Tensor, _sizes: object, dim: int = 0) -> tuple[Tensor | None, ...]:
    """Consecutive parts along an axis."""
    along = axis(dim, x.rank)
    parts: list[Tensor | None] = []
    offset = index(0)
    for out, used in zip(ctx.outs, ctx.used, strict=True):
        assert out is not None
        parts.append(_part(ctx, x, along, offset, out.shape) if used else None)
        offset = offset + out.shape[along]
    return tuple(parts)


def _part(ctx: Context, x: Tensor, along: int, offset: Index, shape: Sequence[Size]) -> Tensor:
    return ctx.compute(shape, lambda *i: x.at(_at(i, along, offset + i[along])))


@lowers("aten.unbind.int", "aten.unbind_copy.int")
def unbind(ctx: Context, x: Tensor, dim: int = 0) -> tuple[Tensor | None, ...]:
    """Every position along an axis as a tensor of its own."""
    along = axis(dim, x.rank)

    def one(position: int) -> Tensor:
        shape = [n for a, n in enumerate(x.shape) if a != along]
        return ctx.compute(shape, lambda *i: x.at([*i[:along], position, *i[along:]]))

    return tuple(one(k) if used else None for k, used in enumerate(ctx.used))


@lowers("aten.diagonal.default", "aten.diagonal_copy.default")
def diagonal(ctx: Context, x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """``x[k + down, k + right]`` of two axes, as the last axis."""
    rows, columns = axis(dim1, x.rank), axis(dim2, x.rank)

    def body(*i: Iter) -> Scalar:
        others = iter(i[:-1])
        place = {rows: index(i[-1]) + max(-offset, 0), columns: index(i[-1]) + max(offset, 0)}
        return x.at([place[a] if a in place else index(next(others)) for a in range(x.rank)])

    return ctx.pointwise(body)


@lowers("aten.diag_embed.default")
def diagonal_matrix(ctx: Context, x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last axis on a diagonal of two new axes, zeros elsewhere."""
    rows, columns = axis(dim1, ctx.out.rank), axis(dim2, ctx.out.rank)

    def body(*i: Iter) -> Scalar:
        others = [k for a, k in enumerate(i) if a not in (rows, columns)]
        place = i[rows] if offset >= 0 else i[columns]
        on = guard((0, i[columns] - i[rows] - offset, 1), (0, place, x.shape[-1]))
        return select(on, x.at([*others, place]), const(0, x.dtype))

    return ctx.pointwise(body)


@lowers("aten.as_strided.default", "aten.as_strided_copy.default")
def strided(
    ctx: Context, x: Tensor, _shape: object, strides: Sequence[IndexLike], offset: IndexLike | None = None
) -> Tensor:
    """Elements by strides over a row-major source."""
    return ctx.pointwise(lambda *i: x.at(strided_place(ctx, x, i, strides, offset)))


def strided_place(
    ctx: Context, x: Tensor, loops: Sequence[Iter], strides: Sequence[IndexLike], offset: IndexLike | None
) -> Sequence[Index]:
    """Where a view by strides reads its source. Refuses a source that does not fill its memory."""
    order = ctx.memory.get(x)
    if order is None:
        raise ctx.refuse(f"strides over {x.name}, which is a part of other memory, have no index map")
    if is_empty(ctx.out.shape):
        return [index(0)] * x.rank
    flat = index(offset or 0)
    for k, stride in zip(loops, strides, strict=True):
        flat = flat + index(stride) * k
    if not within(flat, 0, product(x.shape)):
        raise ctx.refuse(f"strides that leave {x.name} have no index map")
    place = dict(zip(order, unravel(flat, [x.shape[a] for a in order]), strict=True))
    return [place[a] for a in range(x.rank)]
