"""Padding by a constant, by reflection, by the edge, and around."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Index, Iter, Scalar, Size, Tensor, guard, index, select
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import Number, const

lowers = Lowerings()


def _before(rank: int, pad: Sequence[IndexLike]) -> list[IndexLike]:
    """Padding in front of each axis, from torch's list (last axis first, front and back)."""
    listed: list[IndexLike] = list(pad[0::2])
    return [0] * (rank - len(listed)) + listed[::-1]


@lowers("aten.constant_pad_nd.default")
def constant_pad(ctx: Context, x: Tensor, pad: Sequence[IndexLike], value: Number) -> Tensor:
    """``x`` where the position is inside, else ``value``; negative padding crops."""
    before = _before(x.rank, pad)

    def body(*i: Iter) -> Scalar:
        where = [index(k) - b for k, b in zip(i, before, strict=True)]
        inside = guard(*((0, w, e) for w, e in zip(where, x.shape, strict=True)))
        return select(inside, x.at(where), const(value, ctx.dtype))

    return ctx.pointwise(body)


Branches = Callable[[Index, Size], tuple[Index, Index]]


def _mirrored(i: Index, extent: Size) -> tuple[Index, Index]:
    return -i, (index(extent) - 1) * 2 - i


def _edges(_i: Index, extent: Size) -> tuple[Index, Index]:
    return index(0), index(extent) - 1


def _piecewise(ctx: Context, x: Tensor, pad: Sequence[IndexLike], outside: Branches) -> Tensor:
    """Along each padded axis: one index in front of the tensor, the plain one inside, another behind."""
    before = _before(x.rank, pad)

    def body(*i: Iter) -> Scalar:
        choices: list[tuple[Index, Size]] = [(index(k) - b, e) for k, b, e in zip(i, before, x.shape, strict=True)]

        def chosen(at: int, done: list[Index]) -> Scalar:
            if at == len(choices):
                return x.at(done)
            here, extent = choices[at]
            front, back = outside(here, extent)
            behind = select(guard((0, here, extent)), chosen(at + 1, [*done, here]), chosen(at + 1, [*done, back]))
            return select(guard((before[at] * -1, here, 0)), chosen(at + 1, [*done, front]), behind)

        return chosen(0, [])

    return ctx.pointwise(body)


@lowers("aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
def reflection_pad(ctx: Context, x: Tensor, pad: Sequence[IndexLike]) -> Tensor:
    """Mirrored at the first and the last element, which are not repeated."""
    return _piecewise(ctx, x, pad, _mirrored)


@lowers("aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default")
def replication_pad(ctx: Context, x: Tensor, pad: Sequence[IndexLike]) -> Tensor:
    """The first and the last element, repeated."""
    return _piecewise(ctx, x, pad, _edges)


def circular_pad(ctx: Context, x: Tensor, pad: Sequence[IndexLike]) -> Tensor:
    """Positions modulo the extent that negative padding leaves."""
    front, back = (
        _before(x.rank, pad),
        _before(x.rank, [p for k in range(0, len(pad), 2) for p in (pad[k + 1], pad[k])]),
    )

    def around(i: Iter, before: IndexLike, after: IndexLike, extent: Size) -> Index:
        crop = -before if isinstance(before, int) and before < 0 else 0
        cropped = crop - after if isinstance(after, int) and after < 0 else crop
        return (index(i) - before - crop) % (index(extent) - cropped) + crop

    return ctx.pointwise(lambda *i: x.at([around(*a) for a in zip(i, front, back, x.shape, strict=True)]))


@lowers("aten.pad.default")
def pad_any(ctx: Context, x: Tensor, pad: Sequence[IndexLike], mode: str, value: Number | None) -> Tensor:
    """The same by the name of the mode."""
    forms: dict[str, Callable[[Context, Tensor, Sequence[IndexLike]], Tensor]] = {
        "reflect": reflection_pad,
        "replicate": replication_pad,
        "circular": circular_pad,
    }
    if mode in forms:
        return forms[mode](ctx, x, pad)
    return constant_pad(ctx, x, pad, 0 if value is None else value)
