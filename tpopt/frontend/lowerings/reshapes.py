"""Views that move or regroup whole axes: an index map, no work."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.frontend.context import Context, axis, broadcast
from tpopt.frontend.registry import Lowerings
from tpopt.frontend.shapes import is_empty, reshaped
from tpopt.ir import Iter, Size, Tensor, index
from tpopt.ir.index import Index

lowers = Lowerings()


@lowers(
    "aten._reshape_alias.default",
    "aten._reshape_copy.default",
    "aten._unsafe_view.default",
    "aten.flatten.using_ints",
    "aten.ravel.default",
    "aten.reshape.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.squeeze_copy.default",
    "aten.squeeze_copy.dim",
    "aten.squeeze_copy.dims",
    "aten.unflatten.int",
    "aten.unsqueeze.default",
    "aten.unsqueeze_copy.default",
    "aten.view.default",
    "aten.view_as.default",
    "aten.view_copy.default",
)
def reshape(ctx: Context, x: Tensor, *_shape: object) -> Tensor:
    """The same elements in row-major order under another shape."""
    if tuple(map(index, x.shape)) == tuple(map(index, ctx.out.shape)):
        return x
    return ctx.pointwise(lambda *i: x.at(reshaped(i, ctx.out.shape, x.shape)))


@lowers("aten.broadcast_to.default", "aten.expand.default", "aten.expand_as.default", "aten.expand_copy.default")
def expand(ctx: Context, x: Tensor, *_shape: object) -> Tensor:
    """Axes of extent 1 repeated, new axes in front."""
    if tuple(map(index, x.shape)) == tuple(map(index, ctx.out.shape)):
        return x
    return ctx.pointwise(lambda *i: broadcast(x, i, x.dtype))


@lowers("aten.permute.default", "aten.permute_copy.default")
def permute(ctx: Context, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Axis ``k`` of the result is axis ``dims[k]``."""
    order = [axis(d, x.rank) for d in dims]
    if order == sorted(order):
        return x
    return ctx.pointwise(lambda *i: x.at([i[order.index(a)] for a in range(x.rank)]))


@lowers("aten.transpose.int", "aten.transpose_copy.int", "aten.swapaxes.default", "aten.swapdims.default")
def transpose(ctx: Context, x: Tensor, first: int, second: int) -> Tensor:
    """Two axes exchanged."""
    order = list(range(x.rank))
    if order:
        a, b = axis(first, x.rank), axis(second, x.rank)
        order[a], order[b] = b, a
    return permute(ctx, x, order)


@lowers("aten.t.default", "aten.t_copy.default", "aten.numpy_T.default")
def reverse_axes(ctx: Context, x: Tensor) -> Tensor:
    """All axes in reverse order."""
    return permute(ctx, x, list(range(x.rank))[::-1])


@lowers("aten.mT.default", "aten.mH.default", "aten.matrix_H.default", "aten.adjoint.default")
def swap_last(ctx: Context, x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    if x.dtype.is_complex and ctx.target != "aten.mT.default":
        raise ctx.refuse("the conjugate transpose is taken apart first")
    return transpose(ctx, x, -1, -2)


@lowers("aten.movedim.int", "aten.movedim.intlist", "aten.moveaxis.int", "aten.moveaxis.intlist")
def move_axes(ctx: Context, x: Tensor, source: int | Sequence[int], target: int | Sequence[int]) -> Tensor:
    """Some axes moved to given places, the others in order."""
    sources = [axis(d, x.rank) for d in ([source] if isinstance(source, int) else source)]
    targets = [axis(d, x.rank) for d in ([target] if isinstance(target, int) else target)]
    others = iter(a for a in range(x.rank) if a not in sources)
    placed = dict(zip(targets, sources, strict=True))
    return permute(ctx, x, [placed[k] if k in placed else next(others) for k in range(x.rank)])


@lowers("aten.flip.default")
def flip(ctx: Context, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Axes read backwards."""
    turned = {axis(d, x.rank) for d in dims}
    return ctx.pointwise(lambda *i: x.at([n - 1 - index(k) if a in turned else k for a, (k, n) in _axes(i, x)]))


def _axes(loops: Sequence[Iter], x: Tensor) -> list[tuple[int, tuple[Iter, Size]]]:
    return list(enumerate(zip(loops, x.shape, strict=True)))


@lowers("aten.roll.default")
def roll(ctx: Context, x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    """Elements moved along axes, those that leave come back at the other end; without axes, in row-major order."""
    if is_empty(x.shape):
        return x
    if not dims:
        flat = ctx.compute((_numel(x),), lambda k: x.at(reshaped((k,), (_numel(x),), x.shape)), "flat")
        turned = ctx.compute(flat.shape, lambda k: flat[(k - shifts[0]) % flat.shape[0]], "turned")
        return ctx.pointwise(lambda *i: turned.at(reshaped(i, x.shape, turned.shape)))
    moved: dict[int, Index] = {}
    for d, shift in zip(dims, shifts, strict=True):
        moved[axis(d, x.rank)] = moved.get(axis(d, x.rank), index(0)) + shift
    return ctx.pointwise(lambda *i: x.at([(k - moved[a]) % n if a in moved else index(k) for a, (k, n) in _axes(i, x)]))


def _numel(x: Tensor) -> Size:
    from tpopt.ir.index import product

    return product(x.shape)


@lowers("aten.repeat.default", "aten.tile.default")
def repeat(ctx: Context, x: Tensor, _repeats: object) -> Tensor:
    """The whole tensor repeated along axes, new axes in front."""
    front = ctx.out.rank - x.rank
    return ctx.pointwise(lambda *i: x.at([_modulo(k, n) for k, n in zip(i[front:], x.shape, strict=True)]))


def _modulo(where: Iter, extent: Size) -> Index:
    return index(0) if index(extent).constant == 0 else index(where) % extent


@lowers("aten.repeat_interleave.self_int")
def repeat_interleave(ctx: Context, x: Tensor, repeats: int | Index, dim: int | None = None, *_size: object) -> Tensor:
    """Each element repeated in place, along an axis or in row-major order."""
    if index(repeats).constant == 0 or is_empty(ctx.out.shape):
        return ctx.pointwise(lambda *i: x.at([0] * x.rank))
    if dim is None:
        return ctx.pointwise(lambda k: x.at(reshaped((index(k) // repeats,), (_numel(x),), x.shape)))
    along = axis(dim, x.rank)
    return ctx.pointwise(lambda *i: x.at([index(k) // repeats if a == along else k for a, k in enumerate(i)]))
