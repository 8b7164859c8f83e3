"""Scaled dot-product attention: one library call that keeps its algebra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context, broadcast
from tpopt.frontend.lowerings.softmax import peaks, share, share_or_zero
from tpopt.frontend.numerics import products, wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import DType, Index, Iter, Scalar, Tensor, apply, cast, guard, index, position, select, where
from tpopt.ir.index import IndexLike
from tpopt.ir.terms import const

lowers = Lowerings()


@dataclass(frozen=True)
class Attention:
    """``softmax(scale * q·k + mask) · v``; heads of ``k`` and ``v`` are shared evenly by those of ``q``.

    ``causal`` hides keys behind the query's own position, counted from the first of each (torch's alignment).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    causal: bool
    scale: float | None

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Query, key, value, and the mask where there is one."""
        return (self.query, self.key, self.value, *(() if self.mask is None else (self.mask,)))

    def at(self, source: Tensor, batch: Sequence[Iter], row: IndexLike, column: IndexLike) -> Scalar:
        """``source`` of one batch and head; an extent of 1 broadcasts, fewer heads are shared."""
        lead, own = source.shape[:-2], batch[len(batch) - (source.rank - 2) :] if source.rank > 2 else ()
        where_: list[Index] = [index(0) if extent == 1 else index(i) for i, extent in zip(own, lead, strict=True)]
        heads = self.query.shape[-3] if self.query.rank > 2 else 1
        if lead and index(lead[-1]) is not index(heads) and lead[-1] != 1:
            where_[-1] = index(own[-1]) // (index(heads) // lead[-1])
        return source.at([*where_, index(row), index(column)])

    def score(self, kind: DType, *i: Iter) -> Scalar:
        """``scale * sum[d]{q·k}``, masked, of one query (the last but one of ``i``) and one key (the last)."""
        d, (*batch, row, column) = Iter("d", self.query.shape[-1]), i
        dot = products(
            kind, (d,), cast(self.at(self.query, batch, row, d), kind), cast(self.at(self.key, batch, column, d), kind)
        )
        value = apply("mul", dot, self._factor(kind))
        if self.mask is not None and self.mask.dtype is DType.BOOL:
            value = where(broadcast(self.mask, i, DType.BOOL), value, -math.inf)
        elif self.mask is not None:
            value = apply("add", value, broadcast(self.mask, i, kind))
        return (
            select(guard((0, index(row) - column, self.query.shape[-2])), value, const(-math.inf, kind))
            if self.causal
            else value
        )

    def _factor(self, kind: DType) -> Scalar:
        width = self.query.shape[-1]
        if self.scale is None and isinstance(width, int):
            return const(1 / math.sqrt(width) if width else 1.0, kind)
        return apply("rsqrt", position(width, kind)) if self.scale is None else const(self.scale, kind)

    def write(self, ctx: Context, *, weights: bool = False, logsumexp: bool = False) -> list[Tensor]:
        """Stages of the result, then of the probabilities and of the logarithm of the sums where asked for."""
        kind, batch, keys = wide(self.query.dtype), ctx.out.shape[:-2], self.key.shape[-2]
        rows = [*batch, self.query.shape[-2]]
        scores = ctx.compute([*rows, keys], lambda *i: self.score(kind, *i), "scores")
        top, mass = peaks(ctx, scores, len(rows), kind)
        form = share if self.mask is None else share_or_zero
        portions = ctx.compute([*rows, keys], lambda *i: form(scores.at(i), top.at(i[:-1]), mass.at(i[:-1])), "weights")
        j = Iter("j", keys)

        def mixed(*i: Iter) -> Scalar:
            *lead, column = i
            picked = cast(self.at(self.value, lead[:-1], j, column), kind)
            return cast(products(kind, (j,), portions.at([*lead, j]), picked), ctx.dtype)

        outs = [ctx.compute(ctx.out.shape, mixed)]
        if weights:
            outs.append(ctx.compute(portions.shape, lambda *i: cast(portions.at(i), self.query.dtype), "probabilities"))
        if logsumexp:
            outs.append(ctx.compute(rows, lambda *i: apply("add", top.at(i), apply("log", mass.at(i))), "logsumexp"))
        return outs


def _attend(
    ctx: Context, call: Attention, dropout: float, *, weights: bool = False, logsumexp: bool = False
) -> tuple[Tensor, ...]:
    if dropout:
        raise ctx.refuse(f"attention drops at random (dropout_p={dropout})")
    return ctx.kernel(
        "attention", call.reads, lambda inner: call.write(inner, weights=weights, logsumexp=logsumexp),
        causal=call.causal, scale=call.scale,
    )  # fmt: skip


@lowers("aten.scaled_dot_product_attention.default")
def sdpa(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    _gqa: bool,
) -> Tensor:
    """Attention, as the composite operator spells it."""
    return _attend(ctx, Attention(q, k, v, mask, causal, scale), dropout)[0]


@lowers("aten._scaled_dot_product_flash_attention_for_cpu.default")
def sdpa_flash_for_cpu(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float,
    causal: bool,
    mask: Tensor | None,
    scale: float | None,
) -> tuple[Tensor | None, ...]:
    """The CPU kernel: also the logarithm of the sum of exponentials of each row."""
    found = _attend(ctx, Attention(q, k, v, mask, causal, scale), dropout, logsumexp=ctx.used[1])
    return found if ctx.used[1] else (found[0], None)


@lowers("aten._scaled_dot_product_attention_math.default")
def sdpa_math(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    _dropout_mask: object,
    scale: float | None,
    _gqa: bool,
) -> tuple[Tensor | None, ...]:
    """The reference: also the probabilities."""
    found = _attend(ctx, Attention(q, k, v, mask, causal, scale), dropout, weights=ctx.used[1])
    return found if ctx.used[1] else (found[0], None)


@lowers("aten._scaled_dot_product_efficient_attention.default")
def sdpa_efficient(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    _logsumexp: bool,
    dropout: float,
    causal: bool,
    scale: float | None,
) -> tuple[Tensor | None, ...]:
    """The memory-efficient kernel; what only its gradient needs is not written."""
    if any(ctx.used[1:]):
        raise ctx.refuse("the saved state of efficient attention is the kernel's own")
    return (*_attend(ctx, Attention(q, k, v, bias, causal, scale), dropout), *(None for _ in ctx.outs[1:]))


@lowers("aten._scaled_dot_product_flash_attention.default")
def sdpa_flash(
    ctx: Context, q: Tensor, k: Tensor, v: Tensor, dropout: float, causal: bool, _debug: bool, scale: float | None
) -> tuple[Tensor | None, ...]:
    """The flash kernel; what only its gradient needs is not written."""
    if any(ctx.used[1:]):
        raise ctx.refuse("the saved state of flash attention is the kernel's own")
    return (*_attend(ctx, Attention(q, k, v, None, causal, scale), dropout), *(None for _ in ctx.outs[1:]))
