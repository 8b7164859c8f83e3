"""Several tensors in one: concatenation, stacking, and parts written into a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context, axis
from tpopt.frontend.lowerings.slices import strided_place
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.shapes import slice_start, wrapped
from tpopt.ir import Guard, Index, Iter, Scalar, Scatter, Tensor, cast, const, guard, index, select
from tpopt.ir.index import IndexLike

lowers = Lowerings()


@lowers("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def concatenate(ctx: Context, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along an axis; a tensor of shape (0,) is skipped, as in torch."""
    along = axis(dim, ctx.out.rank)
    parts = [t for t in tensors if not (t.rank == 1 and t.shape[0] == 0)]
    starts = [index(0)]
    for part in parts:
        starts.append(starts[-1] + part.shape[along])

    def body(*i: Iter) -> Scalar:
        found: Scalar | None = None
        for part, start, end in reversed(list(zip(parts, starts, starts[1:], strict=False))):
            where = [k - start if a == along else index(k) for a, k in enumerate(i)]
            value = cast(part.at(where), ctx.dtype)
            found = value if found is None else select(guard((start, i[along], end)), value, found)
        return const(0, ctx.dtype) if found is None else found

    return ctx.pointwise(body)


@lowers("aten.stack.default")
def stack(ctx: Context, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    along = axis(dim, ctx.out.rank)

    def body(*i: Iter) -> Scalar:
        where = [k for a, k in enumerate(i) if a != along]
        found = cast(tensors[-1].at(where), ctx.dtype)
        for position in range(len(tensors) - 2, -1, -1):
            value = cast(tensors[position].at(where), ctx.dtype)
            found = select(guard((position, i[along], position + 1)), value, found)
        return found

    return ctx.pointwise(body)


@lowers("aten.meshgrid.default", "aten.meshgrid.indexing")
def grids(ctx: Context, tensors: Sequence[Tensor], indexing: str = "ij") -> tuple[Tensor, ...]:
    """Each tensor repeated along the axes of the others; ``xy`` exchanges the first two."""
    axes = list(range(len(tensors)))
    if indexing == "xy" and len(axes) > 1:
        axes[:2] = [1, 0]
    shape = ctx.out.shape
    own = [t if t.rank else None for t in tensors]
    return tuple(
        ctx.compute(shape, lambda *i, t=t, a=a: tensors[t].at((i[a],) if own[t] else ())) for t, a in enumerate(axes)
    )


def _replace(
    ctx: Context, x: Tensor, source: Tensor, inside: Callable[..., Guard], place: Callable[..., Sequence[IndexLike]]
) -> Tensor:
    """``source`` at a place where the guard holds, ``x`` elsewhere."""

    def body(*i: Iter) -> Scalar:
        return select(inside(*i), cast(source.at([index(p) for p in place(*i)]), x.dtype), x.at(i))

    return ctx.pointwise(body)


@lowers("aten.slice_scatter.default")
def slice_scatter(
    ctx: Context, x: Tensor, source: Tensor, dim: int = 0, start: IndexLike | None = None, *end_and_step: int
) -> Tensor:
    """``x`` with ``x[start:end:step]`` along an axis replaced."""
    along = axis(dim, x.rank)
    length, step = source.shape[along], end_and_step[1]
    first = slice_start(start, x.shape[along], length, step)

    def steps(i: Iter) -> Index:
        return (i - first) // step

    def inside(*i: Iter) -> Guard:
        return guard((0, steps(i[along]), length), (0, (i[along] - first) % step, 1))

    return _replace(ctx, x, source, inside, lambda *i: [steps(k) if a == along else k for a, k in enumerate(i)])


@lowers("aten.select_scatter.default")
def select_scatter(ctx: Context, x: Tensor, source: Tensor, dim: int, position: IndexLike) -> Tensor:
    """``x`` with ``x[position]`` along an axis replaced."""
    along = axis(dim, x.rank)
    where = wrapped(position, x.shape[along])

    def place(*i: Iter) -> list[IndexLike]:
        return [k for a, k in enumerate(i) if a != along]

    return _replace(ctx, x, source, lambda *i: guard((where, i[along], where + 1)), place)


@lowers("aten.diagonal_scatter.default")
def diagonal_scatter(ctx: Context, x: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """``x`` with a diagonal of two axes replaced."""
    rows, columns = axis(dim1, x.rank), axis(dim2, x.rank)

    def along(*i: Iter) -> Index:
        return i[rows] - max(-offset, 0)

    def inside(*i: Iter) -> Guard:
        return guard((0, i[columns] - i[rows] - offset, 1), (0, along(*i), source.shape[-1]))

    def place(*i: Iter) -> list[IndexLike]:
        return [*(k for a, k in enumerate(i) if a not in (rows, columns)), along(*i)]

    return _replace(ctx, x, source, inside, place)


@lowers("aten.as_strided_scatter.default")
def strided_scatter(
    ctx: Context, x: Tensor, source: Tensor, _shape: object, strides: Sequence[IndexLike], offset: IndexLike | None
) -> Tensor:
    """A row-major ``x`` with the elements that strides reach replaced."""
    loops = tuple(Iter(f"i{a}", n) for a, n in enumerate(source.shape))
    out = ctx.fresh(x.shape, x.dtype)
    place = tuple(strided_place(ctx, x, loops, strides, offset))
    ctx.add(Scatter(out, x, "set", loops, place, cast(source.at(loops), x.dtype)))
    return out
