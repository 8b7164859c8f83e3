"""Bags of embedding rows: sums, means and maxima over runs of indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowerings
from tpopt.ir import (
    Builder,
    DType,
    Guard,
    Index,
    Iter,
    Lookup,
    Program,
    Scalar,
    Scan,
    Size,
    Tensor,
    apply,
    cast,
    guard,
    index,
    iters,
    where,
)
from tpopt.ir.build import tensor
from tpopt.ir.stages import Scatter
from tpopt.ir.terms import const

lowers = Lowerings()
SUM, MEAN, MAX = 0, 1, 2


@dataclass(frozen=True)
class Bags:
    """``count`` runs of ``indices``, perhaps empty, that start at ``offsets``. ``padding`` is a row left out, or -1."""

    ctx: Context
    weight: Tensor
    indices: Tensor
    offsets: Tensor
    count: Size
    padding: int

    def row(self, j: Iter) -> Index:
        """The embedding row of position ``j``."""
        return index(Lookup(self.indices, (index(j),), index(0), index(self.weight.shape[0])))

    def counted(self, j: Iter) -> Guard | None:
        """Holds where position ``j`` does not name the padding row; ``None``: always."""
        if self.padding < 0:
            return None
        apart = self.row(j) - self.padding
        return guard((1, apart * apart, index(self.weight.shape[0]) * self.weight.shape[0]))

    def owners(self) -> Tensor:
        """The bag of each position: how many bags have started, less one."""
        n = self.indices.shape[0]
        zeros = self.ctx.compute([index(n) + 1], lambda _: const(0, DType.I64), "zeros")
        starts = self.ctx.fresh(zeros.shape, DType.I64, "starts")
        b = Iter("b", self.count)
        at = index(Lookup(self.offsets, (index(b),), index(0), index(n) + 1))
        self.ctx.add(Scatter(starts, zeros, "add", (b,), (at,), const(1, DType.I64)))
        return self._running(self.ctx.compute([n], lambda j: starts[j], "starting"))

    def _running(self, starting: Tensor) -> Tensor:
        before = self.ctx.compute([], lambda: const(-1, DType.I64), "before")
        body = Builder()
        bag, start = tensor(body.name("bag"), (), DType.I64), tensor(body.name("start"), (), DType.I64)
        following = body.compute("next", (), lambda: apply("add", bag.at([]), start.at([])))
        program = Program("bags", (bag, start), (), tuple(body.stages), (following, following))
        last, owners = self.ctx.fresh((), DType.I64, "last"), self.ctx.fresh(starting.shape, DType.I64, "bags")
        self.ctx.add(Scan((last, owners), (before,), (starting,), (), Iter("j", starting.shape[0]), program))
        return owners

    def gather(self, owners: Tensor, columns: Sequence[Size], start: float, op: str, value: Scalar) -> Tensor:
        """``value`` of position ``j0`` and columns ``j1…``, brought together by bag."""
        shape = [self.count, *columns]
        base, out = (
            self.ctx.compute(shape, lambda *_: const(start, value.dtype), "empty"),
            self.ctx.fresh(shape, value.dtype),
        )
        j, *rest = self.loops(columns)
        bag = index(Lookup(owners, (index(j),), index(0), index(self.count)))
        self.ctx.add(Scatter(out, base, op, (j, *rest), (bag, *map(index, rest)), value, self.counted(j)))
        return out

    def loops(self, columns: Sequence[Size]) -> tuple[Iter, ...]:
        """Iterators over positions and columns."""
        return iters("j", (self.indices.shape[0], *columns))


def _bag(ctx: Context, bags: Bags, mode: int, per_sample: Tensor | None) -> Tensor:
    kind, columns = wide(ctx.dtype), bags.weight.shape[1:]
    j, d = bags.loops(columns)
    value = cast(bags.weight.at([bags.row(j), index(d)]), kind)
    if per_sample is not None:
        value = apply("mul", value, cast(per_sample[j], kind))
    owners = bags.owners()
    if mode == MAX:
        most = bags.gather(owners, columns, -math.inf, "max", value)
        return ctx.pointwise(lambda *i: cast(where(apply("eq", most.at(i), -math.inf), 0.0, most.at(i)), ctx.dtype))
    total = bags.gather(owners, columns, 0.0, "add", value)
    if mode == SUM:
        return ctx.pointwise(lambda *i: cast(total.at(i), ctx.dtype))
    members = bags.gather(owners, (), 0.0, "add", const(1, kind))
    return ctx.pointwise(lambda b, c: cast(apply("div", total[b, c], apply("max", members[b], 1.0)), ctx.dtype))


def _checked(
    ctx: Context, weight: Tensor, indices: Tensor, offsets: Tensor, mode: int, per_sample: Tensor | None, padding: int
) -> tuple[Tensor | None, ...]:
    if any(ctx.used[1:]):
        raise ctx.refuse("what embedding_bag saves for its gradient is the kernel's own")
    bags = Bags(ctx, weight, indices, offsets, ctx.out.shape[0], padding)
    return _bag(ctx, bags, mode, per_sample), None, None, None


@lowers("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")
def private_embedding_bag(
    ctx: Context,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    _scale: bool,
    mode: int,
    _sparse: bool,
    per_sample: Tensor | None,
    _last: bool,
    padding: int,
) -> tuple[Tensor | None, ...]:
    """Sum, mean or maximum over each bag; a padding row of -1 means none."""
    return _checked(ctx, weight, indices, offsets, mode, per_sample, padding)


@lowers("aten.embedding_bag.padding_idx", "aten.embedding_bag.default")
def embedding_bag(
    ctx: Context,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    _scale: bool,
    mode: int,
    _sparse: bool,
    per_sample: Tensor | None,
    _last: bool,
    padding: int | None = None,
) -> tuple[Tensor | None, ...]:
    """The same; a negative padding row counts from the last."""
    if padding is not None and padding < 0:
        if not isinstance(weight.shape[0], int):
            raise ctx.refuse("a padding row counted from the end of a table of run-time length")
        padding += weight.shape[0]
    return _checked(ctx, weight, indices, offsets, mode, per_sample, -1 if padding is None else padding)
