"""Gradients of layer and group normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpopt.frontend.context import Context
from tpopt.frontend.moments import centered, count, parameter
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Scalar, Tensor, apply, cast, index, total
from tpopt.ir.index import IndexLike

lowers = Lowerings()


def _wanted(ctx: Context, k: int) -> Tensor | None:
    """The ``k``-th result where the mask asks for it and somebody reads it."""
    return ctx.outs[k] if k < len(ctx.outs) and ctx.used[k] else None


def _result(ctx: Context, k: int, suffix: str, body: Callable[..., Scalar]) -> Tensor | None:
    out = _wanted(ctx, k)
    return None if out is None else ctx.compute(out.shape, lambda *i: cast(body(*i), out.dtype), suffix)


def _scaled(value: Scalar, weight: Scalar | None) -> Scalar:
    return value if weight is None else apply("mul", value, cast(weight, value.dtype))


def _towards_input(slope: Scalar, x: Scalar, rstd: Scalar, sums: Sequence[Scalar], number: Scalar) -> Scalar:
    """``(slope - Σ slope / n - x̂ · Σ slope·x̂ / n) · rstd``, with both sums given."""
    plain, along = (apply("div", s, number) for s in sums)
    return apply("mul", apply("sub", apply("sub", slope, plain), apply("mul", x, along)), rstd)


@lowers("aten.native_layer_norm_backward.default")
def layer_norm_backward(
    ctx: Context,
    grad: Tensor,
    x: Tensor,
    shape: Sequence[object],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    _bias: Tensor | None,
    _mask: object,
) -> tuple[Tensor | None, ...]:
    """Two sums over the normalized axes and a map; for the parameters, sums over the others."""
    kind, kept = wide(x.dtype), x.rank - len(shape)
    inner = tuple(Iter(f"k{a}", e) for a, e in enumerate(x.shape[kept:]))
    outer = tuple(Iter(f"o{a}", e) for a, e in enumerate(x.shape[:kept]))

    def saved(source: Tensor, where: Sequence[IndexLike]) -> Scalar:
        return source.at([*map(index, where[:kept]), *[index(0)] * (source.rank - kept)])

    def given(where: Sequence[IndexLike]) -> Scalar:
        return cast(grad.at([index(i) for i in where]), kind)

    def normal(where: Sequence[IndexLike]) -> Scalar:
        return centered(x.at([index(i) for i in where]), saved(mean, where), saved(rstd, where))

    def slope(where: Sequence[IndexLike]) -> Scalar:
        return _scaled(given(where), parameter(weight, *where[kept:]))

    def towards_input() -> Tensor | None:
        if _wanted(ctx, 0) is None:
            return None

        def both(*i: Iter) -> tuple[Scalar, Scalar]:
            where = (*i, *inner)
            return total(inner, slope(where)), total(inner, apply("mul", slope(where), normal(where)))

        sums = ctx.many(x.shape[:kept], both)

        def body(*i: Iter) -> Scalar:
            read = [s.at(i[:kept]) for s in sums]
            return _towards_input(slope(i), normal(i), cast(saved(rstd, i), kind), read, count(inner, kind))

        return _result(ctx, 0, "input", body)

    def towards_weight(*i: Iter) -> Scalar:
        return total(outer, apply("mul", given((*outer, *i)), normal((*outer, *i))))

    return (
        towards_input(),
        _result(ctx, 1, "weight", towards_weight),
        _result(ctx, 2, "bias", lambda *i: total(outer, given((*outer, *i)))),
    )


@lowers("aten.native_group_norm_backward.default")
def group_norm_backward(
    ctx: Context,
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    _n: object,
    _c: object,
    _space: object,
    groups: int,
    _mask: object,
) -> tuple[Tensor | None, ...]:
    """Two sums over the space of each channel, from which all else follows, and a map."""
    kind = wide(x.dtype)
    each = index(x.shape[1]) // groups
    space = tuple(Iter(f"k{a}", e) for a, e in enumerate(x.shape[2:]))

    def of_group(source: Tensor, n: IndexLike, c: IndexLike) -> Scalar:
        return cast(source.at([index(n), index(c) // each]), kind)

    def given(*where: IndexLike) -> Scalar:
        return cast(grad.at([index(i) for i in where]), kind)

    def normal(*where: IndexLike) -> Scalar:
        return centered(x.at([index(i) for i in where]), of_group(mean, *where[:2]), of_group(rstd, *where[:2]))

    def both(n: Iter, c: Iter) -> tuple[Scalar, Scalar]:
        where = (n, c, *space)
        return total(space, given(*where)), total(space, apply("mul", given(*where), normal(*where)))

    sums = ctx.many(x.shape[:2], both)

    def towards_input() -> Tensor | None:
        if _wanted(ctx, 0) is None:
            return None
        member = Iter("c", each.constant if each.constant is not None else each)

        def of_members(n: Iter, g: Iter) -> tuple[Scalar, ...]:
            channel = index(g) * each + member
            scale = parameter(weight, channel)
            return tuple(total((member,), _scaled(s.at([index(n), channel]), scale)) for s in sums)

        grouped = ctx.many((x.shape[0], groups), of_members)
        number = count((member, *space), kind)

        def body(*i: Iter) -> Scalar:
            read = [of_group(s, *i[:2]) for s in grouped]
            slope = _scaled(given(*i), parameter(weight, i[1]))
            return _towards_input(slope, normal(*i), of_group(rstd, *i[:2]), read, number)

        return _result(ctx, 0, "input", body)

    batch = Iter("n", x.shape[0])
    plain, along = (_over_batch(s, batch) for s in sums)
    return towards_input(), _result(ctx, 1, "weight", along), _result(ctx, 2, "bias", plain)


def _over_batch(source: Tensor, batch: Iter) -> Callable[..., Scalar]:
    return lambda c: total((batch,), source.at([index(batch), index(c)]))
