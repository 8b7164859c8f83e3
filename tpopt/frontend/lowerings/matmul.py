"""Products of matrices and vectors."""

from __future__ import annotations

from tpopt.frontend.context import Context, broadcast
from tpopt.frontend.numerics import products, scaled, wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Index, Iter, Scalar, Tensor, apply, cast, index
from tpopt.ir.terms import Number

lowers = Lowerings()


def _rows(source: Tensor, batch: tuple[Iter, ...], *last: Iter) -> Scalar:
    """``source`` at broadcast batch indices, then at ``last`` exactly."""
    rank = source.rank - len(last)
    own = batch[len(batch) - rank :] if rank else ()
    where = [index(0) if extent == 1 else index(i) for i, extent in zip(own, source.shape[:rank], strict=True)]
    return source.at([*where, *map(index, last)])


@lowers(
    "aten.mm.default",
    "aten.bmm.default",
    "aten.mv.default",
    "aten.dot.default",
    "aten.matmul.default",
    "aten.linalg_matmul.default",
)
def matmul(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    """``sum[k]{a[…,i,k] * b[…,k,j]}``; vectors have no ``i`` or ``j``, batch axes broadcast."""
    k = Iter("k", a.shape[-1])

    def body(*i: Iter) -> Scalar:
        columns = i[len(i) - 1 :] if b.rank > 1 else ()
        rest = i[: len(i) - len(columns)]
        rows = rest[len(rest) - 1 :] if a.rank > 1 else ()
        batch = rest[: len(rest) - len(rows)]
        return cast(products(ctx.dtype, (k,), _rows(a, batch, *rows, k), _rows(b, batch, k, *columns)), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.vdot.default")
def vdot(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    """``sum[k]{conj(a[k]) * b[k]}``."""
    k = Iter("k", a.shape[0])
    left = apply("conj", a[k]) if a.dtype.is_complex else a[k]
    return ctx.pointwise(lambda: cast(products(ctx.dtype, (k,), left, b[k]), ctx.dtype))


@lowers("aten.linear.default")
def linear(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``sum[k]{x[…,k] * weight[o,k]} + bias[o]``; a weight of rank 1 yields one value for each row."""
    k = Iter("k", x.shape[-1])

    def body(*i: Iter) -> Scalar:
        rows, out = (i[:-1], i[-1:]) if weight.rank == 2 else (i, ())
        value = products(ctx.dtype, (k,), x.at([*map(index, rows), index(k)]), weight.at([*map(index, out), index(k)]))
        if bias is not None:
            value = apply("add", value, broadcast(bias, i, value.dtype))
        return cast(value, ctx.dtype)

    return ctx.pointwise(body)


def _added(ctx: Context, base: Tensor, i: tuple[Iter, ...], product: Scalar, beta: Number, alpha: Number) -> Scalar:
    """``beta*base + alpha*product`` in the accumulating type; a zero ``beta`` ignores ``base``, as torch does."""
    value = scaled(product, alpha)
    if beta != 0:
        value = apply("add", scaled(broadcast(base, i, wide(ctx.dtype)), beta), value)
    return cast(value, ctx.dtype)


@lowers("aten.addmm.default", "aten.baddbmm.default", "aten.addmv.default")
def addmm(ctx: Context, base: Tensor, a: Tensor, b: Tensor, beta: Number, alpha: Number) -> Tensor:
    """``beta*base + alpha*(a @ b)``."""
    k = Iter("k", a.shape[-1])

    def body(*i: Iter) -> Scalar:
        batch = i[: a.rank - 2]
        columns = i[a.rank - 1 :]
        term = products(ctx.dtype, (k,), _rows(a, batch, i[a.rank - 2], k), _rows(b, batch, k, *columns))
        return _added(ctx, base, i, term, beta, alpha)

    return ctx.pointwise(body)


@lowers("aten.addbmm.default")
def addbmm(ctx: Context, base: Tensor, a: Tensor, b: Tensor, beta: Number, alpha: Number) -> Tensor:
    """``beta*base + alpha*sum[n]{a[n] @ b[n]}``."""
    n, k = Iter("n", a.shape[0]), Iter("k", a.shape[2])

    def body(i: Iter, j: Iter) -> Scalar:
        return _added(ctx, base, (i, j), products(ctx.dtype, (n, k), a[n, i, k], b[n, k, j]), beta, alpha)

    return ctx.pointwise(body)


@lowers("aten.addr.default")
def addr(ctx: Context, base: Tensor, a: Tensor, b: Tensor, beta: Number, alpha: Number) -> Tensor:
    """``beta*base + alpha*a[i]*b[j]``."""

    def body(i: Iter, j: Iter) -> Scalar:
        return _added(
            ctx, base, (i, j), products(ctx.dtype, (), cast(a[i], ctx.dtype), cast(b[j], ctx.dtype)), beta, alpha
        )

    return ctx.pointwise(body)


@lowers("aten.outer.default", "aten.ger.default")
def outer(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    """``a[i] * b[j]``."""
    return ctx.pointwise(lambda i, j: apply("mul", cast(a[i], ctx.dtype), cast(b[j], ctx.dtype)))


@lowers("aten.inner.default")
def inner(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    """``sum[k]{a[…,k] * b[…,k]}`` over all pairs of rows; a product when one operand is a number."""
    if not a.rank or not b.rank:
        return ctx.pointwise(lambda *i: apply("mul", broadcast(a, i, ctx.dtype), broadcast(b, i, ctx.dtype)))
    k = Iter("k", a.shape[-1])

    def body(*i: Iter) -> Scalar:
        return cast(products(ctx.dtype, (k,), a.at([*i[: a.rank - 1], k]), b.at([*i[a.rank - 1 :], k])), ctx.dtype)

    return ctx.pointwise(body)


@lowers("aten.kron.default")
def kron(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
    """``a[i // n] * b[i % n]`` along every axis, ``n`` the extent of ``b``; missing axes count as 1."""
    rank = max(a.rank, b.rank)
    blocks = (1,) * (rank - b.rank) + b.shape

    def body(*i: Iter) -> Scalar:
        outer_, inner_ = (
            [index(p) // n for p, n in zip(i, blocks, strict=True)],
            [index(p) % n for p, n in zip(i, blocks, strict=True)],
        )
        left, right = a.at(_last(outer_, a.rank)), b.at(_last(inner_, b.rank))
        return apply("mul", cast(left, ctx.dtype), cast(right, ctx.dtype))

    return ctx.pointwise(body)


def _last(where: list[Index], count: int) -> list[Index]:
    return where[len(where) - count :]
