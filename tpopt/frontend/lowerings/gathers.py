"""Reads at positions that are data: indexing, gathering, embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context, axis
from tpopt.frontend.registry import Lowerings, NoAlgebra
from tpopt.frontend.shapes import is_empty
from tpopt.ir import DType, Index, Iter, Lookup, Size, Tensor, index
from tpopt.ir.build import unravel
from tpopt.ir.index import product

lowers = Lowerings()


def looked_up(positions: Tensor, at: Sequence[Iter | Index], extent: Size) -> Index:
    """The position stored at ``at``, promised to be in ``[0, extent)``."""
    if index(extent).constant == 0:
        return index(0)
    return index(Lookup(positions, tuple(map(index, at)), index(0), index(extent)))


def wrapping(positions: Tensor, at: Sequence[Iter | Index], extent: Size) -> Index:
    """The same for positions in ``[-extent, extent)``, where negative ones count from the end."""
    if index(extent).constant == 0:
        return index(0)
    return index(Lookup(positions, tuple(map(index, at)), -index(extent), index(extent))) % extent


@dataclass(frozen=True)
class Indexed:
    """``x[indices]`` with integer tensors among the indices: the shape of the result and where each element comes from.

    The index tensors broadcast to ``common``; its axes stand where the first of them does when they are neighbours,
    else in front.
    """

    source: Tensor
    indices: tuple[Tensor | None, ...]
    common: tuple[Size, ...]
    first: int

    @property
    def shape(self) -> tuple[Size, ...]:
        """Extents of the result."""
        kept = [n for n, i in zip(self.source.shape, self.indices, strict=True) if i is None]
        return (*kept[: self.first], *self.common, *kept[self.first :])

    def place(self, loops: Sequence[Iter]) -> list[Index]:
        """Where the element at ``loops`` of the result lies in the source."""
        shared = loops[self.first : self.first + len(self.common)]
        kept = iter([*loops[: self.first], *loops[self.first + len(self.common) :]])
        found = []
        for extent, positions in zip(self.source.shape, self.indices, strict=True):
            if positions is None:
                found.append(index(next(kept)))
                continue
            own = shared[len(shared) - positions.rank :]
            at = [index(0) if n == 1 else index(k) for k, n in zip(own, positions.shape, strict=True)]
            found.append(wrapping(positions, at, extent))
        return found


def indexed(x: Tensor, indices: Sequence[Tensor | None]) -> Indexed:
    """Analyses an index expression. Raises :class:`NoAlgebra` for masks, whose result's shape depends on data."""
    given = [i for i in indices if i is not None]
    if any(i.dtype in (DType.BOOL, DType.U8) for i in given):
        raise NoAlgebra("indexing with a mask: the shape of the result depends on data")
    full = (*indices, *([None] * (x.rank - len(indices))))
    axes = [a for a, i in enumerate(full) if i is not None]
    neighbours = bool(axes) and axes == list(range(axes[0], axes[0] + len(axes)))
    return Indexed(x, full, broadcast_shape([i.shape for i in given]), axes[0] if neighbours else 0)


def broadcast_shape(shapes: Sequence[Sequence[Size]]) -> tuple[Size, ...]:
    """The common shape under torch's broadcasting."""
    rank = max((len(s) for s in shapes), default=0)
    found: list[Size] = [1] * rank
    for shape in shapes:
        for a, extent in enumerate(shape, start=rank - len(shape)):
            found[a] = extent if found[a] == 1 else found[a]
    return tuple(found)


@lowers("aten.index.Tensor", "aten._unsafe_index.Tensor")
def take_indexed(ctx: Context, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """``x[indices]``."""
    how = indexed(x, indices)
    return ctx.compute(how.shape, lambda *i: x.at(how.place(i)))


@lowers("aten.index_select.default")
def index_select(ctx: Context, x: Tensor, dim: int, positions: Tensor) -> Tensor:
    """``x[positions]`` along an axis."""
    if not x.rank:
        return ctx.pointwise(lambda *_i: x.at(()))
    along = axis(dim, x.rank)

    def body(*i: Iter) -> list[Index]:
        found = looked_up(positions, i[along : along + 1] if positions.rank else (), x.shape[along])
        return [found if a == along else index(k) for a, k in enumerate(i)]

    return ctx.pointwise(lambda *i: x.at(body(*i)))


@lowers("aten.gather.default")
def gather(ctx: Context, x: Tensor, dim: int, positions: Tensor, *_sparse: object) -> Tensor:
    """``x[…, positions[i…], …]``: the axis read where the index tensor says, the others in step with it."""
    if not x.rank or is_empty(ctx.out.shape):  # torch lets an index without elements have any rank
        return ctx.pointwise(lambda *_i: x.at([0] * x.rank))
    along = axis(dim, x.rank)

    def place(i: Sequence[Iter]) -> list[Index]:
        found = looked_up(positions, i if positions.rank else (), x.shape[along])
        return [found if a == along else index(k) for a, k in enumerate(i)] if i else [found]

    return ctx.pointwise(lambda *i: x.at(place(i)))


@lowers("aten.take.default")
def take(ctx: Context, x: Tensor, positions: Tensor) -> Tensor:
    """Elements by their row-major position; negative ones count from the end."""
    if is_empty(ctx.out.shape):
        return ctx.pointwise(lambda *_i: x.at([0] * x.rank))
    return ctx.pointwise(lambda *i: x.at(list(unravel(wrapping(positions, i, product(x.shape)), x.shape))))


@lowers("aten.embedding.default")
def embedding(ctx: Context, table: Tensor, positions: Tensor, *_options: object) -> Tensor:
    """Rows of a table."""
    return ctx.pointwise(lambda *i: table[looked_up(positions, i[:-1], table.shape[0]), i[-1]])
