"""Sums, products, extremes and truth over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tpopt.frontend.context import Context, axes
from tpopt.frontend.numerics import wide
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.ir import DType, Iter, Scalar, Size, Tensor, apply, cast, position, reduce, where
from tpopt.ir.index import product

lowers = Lowerings()

Dims: TypeAlias = "Sequence[int] | int | None"


@dataclass(frozen=True)
class Reduced:
    """A tensor with some axes reduced: ``keep`` says whether they stay with extent 1 in the result."""

    source: Tensor
    along: tuple[int, ...]
    keep: bool

    @property
    def iters(self) -> tuple[Iter, ...]:
        """One iterator for each reduced axis."""
        return tuple(Iter(f"k{a}", self.source.shape[a]) for a in self.along)

    @property
    def count(self) -> Size:
        """Elements that go into one result."""
        return product(self.source.shape[a] for a in self.along)

    @property
    def shape(self) -> tuple[Size, ...]:
        """Extents of the result."""
        kept = [
            1 if a in self.along else n for a, n in enumerate(self.source.shape) if self.keep or a not in self.along
        ]
        return tuple(kept)

    def read(self, loops: Sequence[Iter], tensor: Tensor | None = None) -> Scalar:
        """The source (or another tensor of its shape) at the loops and the reduced iterators."""
        within = dict(zip(self.along, self.iters, strict=True))
        outer = iter(i for a, i in enumerate(loops) if not self.keep or a not in self.along)
        return (tensor or self.source).at([within[a] if a in within else next(outer) for a in range(self.source.rank)])


def reduced(x: Tensor, dims: Dims, keep: bool = False) -> Reduced:
    """The reduction over given axes; ``None`` or an empty list means all of them."""
    return Reduced(x, axes(dims, x.rank) if x.rank else (), keep)


def fold(
    ctx: Context, over: Reduced, monoid: str, prepare: Callable[[Scalar], Scalar], finish: Callable[[Scalar], Scalar]
) -> Tensor:
    """``out = finish(monoid over prepare(x))``, converted to the result's type."""

    def body(*i: Iter) -> Scalar:
        return cast(finish(reduce(monoid, over.iters, prepare(over.read(i)))), ctx.dtype)

    return ctx.compute(over.shape, body)


def same(value: Scalar) -> Scalar:
    """The value itself."""
    return value


def _to(dtype: DType) -> Callable[[Scalar], Scalar]:
    return lambda v: cast(v, dtype)


@lowers("aten.sum.dim_IntList")
def total_over(ctx: Context, x: Tensor, dims: Dims = None, keepdim: bool = False, *_dtype: object) -> Tensor:
    """Sum over axes; half types accumulate in f32, integers in i64."""
    return fold(ctx, reduced(x, dims, keepdim), "sum", _to(wide(ctx.dtype)), same)


@lowers("aten.sum.default")
def total(ctx: Context, x: Tensor, *_dtype: object) -> Tensor:
    """Sum of everything."""
    return total_over(ctx, x)


@lowers("aten.nansum.default")
def nan_total(ctx: Context, x: Tensor, dims: Dims = None, keepdim: bool = False, *_dtype: object) -> Tensor:
    """Sum over axes of what is not NaN."""

    def prepare(v: Scalar) -> Scalar:
        return cast(where(apply("isnan", v), 0, v) if v.dtype.is_float else v, wide(ctx.dtype))

    return fold(ctx, reduced(x, dims, keepdim), "sum", prepare, same)


@lowers("aten.mean.dim")
def mean_over(ctx: Context, x: Tensor, dims: Dims = None, keepdim: bool = False, *_dtype: object) -> Tensor:
    """Sum over axes divided by the number of elements."""
    over, dtype = reduced(x, dims, keepdim), wide(ctx.dtype)
    return fold(ctx, over, "sum", _to(dtype), lambda v: v / position(over.count, dtype))


@lowers("aten.mean.default")
def mean(ctx: Context, x: Tensor, *_dtype: object) -> Tensor:
    """Mean of everything."""
    return mean_over(ctx, x)


@lowers("aten.prod.dim_int")
def product_over(ctx: Context, x: Tensor, dim: int, keepdim: bool = False, *_dtype: object) -> Tensor:
    """Product over an axis."""
    over = reduced(x, dim, keepdim)
    return fold(ctx, over, "prod", _to(wide(ctx.dtype)), same)


@lowers("aten.prod.default")
def product_of_all(ctx: Context, x: Tensor, *_dtype: object) -> Tensor:
    """Product of everything."""
    return fold(ctx, reduced(x, None), "prod", _to(wide(ctx.dtype)), same)


def _extreme(monoid: str) -> Lowering:
    def lower(ctx: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
        return fold(ctx, reduced(x, dims, keepdim), monoid, same, same)

    return lower


lowers("aten.amax.default", "aten.max.default")(_extreme("max"))
lowers("aten.amin.default", "aten.min.default")(_extreme("min"))


@lowers("aten.aminmax.default")
def both_extremes(ctx: Context, x: Tensor, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, ...]:
    """Minimum and maximum over an axis or everything, in one stage."""
    over = reduced(x, dim, keepdim)
    return ctx.many(over.shape, lambda *i: [reduce(m, over.iters, over.read(i)) for m in ("min", "max")])


def _truth(monoid: str) -> Lowering:
    def lower(ctx: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Tensor:
        over = Reduced(x, (), keepdim) if dims == [] else reduced(x, dims, keepdim)
        return fold(ctx, over, monoid, _to(DType.BOOL), same)

    return lower


for _name in ("any", "all"):
    lowers(f"aten.{_name}.default", f"aten.{_name}.dim", f"aten.{_name}.dims")(_truth(_name))


@lowers("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def count_nonzero(ctx: Context, x: Tensor, dims: Dims = None) -> Tensor:
    """How many elements are not zero."""
    return fold(ctx, reduced(x, dims), "sum", lambda v: cast(cast(v, DType.BOOL), ctx.dtype), same)
