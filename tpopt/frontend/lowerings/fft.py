"""Fourier transforms: library calls whose algebra is a sum over a structured weight along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tpopt.frontend.context import Context, axis
from tpopt.frontend.registry import Lowerings
from tpopt.ir import (
    DType,
    Iter,
    Scalar,
    Size,
    Structure,
    Tensor,
    apply,
    cast,
    guard,
    index,
    nonnegative,
    position,
    select,
    size,
    total,
)
from tpopt.ir.index import IndexLike, product
from tpopt.ir.terms import const

lowers = Lowerings()
FORWARD, INVERSE = -1, 1
_SCALED = {None: 2, "backward": 2, "ortho": 1, "forward": 0}


@dataclass(frozen=True)
class Step:
    """A transform of length ``n`` along an axis, of which ``columns`` results are kept. ``real``: to real numbers."""

    axis: int
    n: Size
    columns: Size
    real: bool = False


@dataclass(frozen=True)
class Transform:
    """Steps in order, with one sign of the exponent. ``scale`` 0, 1, 2: none, ``1/sqrt(n)``, ``1/n`` in all."""

    steps: tuple[Step, ...]
    sign: int
    scale: int

    def apply(self, ctx: Context, x: Tensor) -> Tensor:
        """Adds the Kernel stage."""
        kind = "c2r" if self.steps[-1].real else "c2c" if x.dtype.is_complex else "r2c"

        def write(inner: Context) -> list[Tensor]:
            current = x
            for k, step in enumerate(self.steps):
                last = k == len(self.steps) - 1
                current = self._one(inner, current, step, self._factor(ctx.dtype.real) if last else None)
            return [current]

        axes, sizes = tuple(s.axis for s in self.steps), tuple(s.n for s in self.steps)
        return ctx.kernel("fft", (x,), write, axes=axes, kind=kind, scale=self.scale, sign=self.sign, sizes=sizes)[0]

    def _factor(self, kind: DType) -> Scalar | None:
        n = product(s.n for s in self.steps)
        if not self.scale:
            return None
        if isinstance(n, int):
            return const(1 / (n if self.scale == 2 else math.sqrt(n)), kind)
        return apply("reciprocal" if self.scale == 2 else "rsqrt", position(n, kind))

    def _one(self, ctx: Context, x: Tensor, step: Step, factor: Scalar | None) -> Tensor:
        kind = ctx.dtype.complex
        rows = size(index(step.n) // 2 + 1) if step.real else step.n
        k, fits = _summed(x.shape[step.axis], rows)

        def body(*i: Iter) -> Scalar:
            where = [index(j) for j in i]
            where[step.axis] = index(k)
            value = cast(x.at(where), kind)
            value = value if fits else select(guard((0, index(k), x.shape[step.axis])), value, const(0, kind))
            term = apply("mul", value, self._weight(ctx, step, k, i[step.axis], kind))
            if step.real:
                term = _twice(term, k, step.n)
            result = total((k,), term)
            if step.real:
                result = apply("real", result)
            return result if factor is None else apply("mul", result, cast(factor, result.dtype))

        shape = [step.columns if a == step.axis else e for a, e in enumerate(x.shape)]
        return ctx.compute(shape, body)

    def _weight(self, ctx: Context, step: Step, k: Iter, column: Iter, kind: DType) -> Scalar:
        if isinstance(step.n, int) and isinstance(k.extent, int) and isinstance(step.columns, int):
            structure = Structure("dft", (step.n, k.extent, step.columns, self.sign))
            name = f"dft{step.n}" + ("" if self.sign == FORWARD else ".inverse")
            return ctx.weight(name, (k.extent, step.columns), kind, structure)[k, column]
        turn = apply("div", position((index(k) * column) % step.n, kind.real), position(step.n, kind.real))
        angle = apply("mul", turn, self.sign * 2 * math.pi)
        return apply("complex", apply("cos", angle), apply("sin", angle))


def _summed(extent: Size, rows: Size) -> tuple[Iter, bool]:
    """The iterator over what is transformed, and whether it stays inside the tensor: what is missing is zero."""
    if nonnegative(index(rows) - extent):
        return Iter("k", extent), True
    return Iter("k", rows), nonnegative(index(extent) - rows)


def _twice(term: Scalar, k: Iter, n: IndexLike) -> Scalar:
    """Each coefficient but the constant one, and the middle one of an even length, stands for its conjugate too."""
    inner = guard((1, index(k), (index(n) + 1) // 2))
    return apply("mul", term, select(inner, const(2, term.dtype), const(1, term.dtype)))


def _norm(name: str | None, sign: int) -> int:
    return _SCALED[name] if sign == INVERSE else 2 - _SCALED[name]


def _listed(x: Tensor, sizes: Sequence[object] | None, dims: Sequence[int] | None) -> list[int]:
    if dims is not None and len(dims):
        return [axis(d, x.rank) for d in dims]
    return list(range(x.rank))[-len(sizes) :] if sizes else list(range(x.rank))


def complex_transform(ctx: Context, x: Tensor, axes: Sequence[int], sign: int, scale: int) -> Tensor:
    """All results of transforms along ``axes``; lengths are the result's extents."""
    steps = tuple(Step(a, ctx.out.shape[a], ctx.out.shape[a]) for a in axes)
    return Transform(steps, sign, scale).apply(ctx, x)


def half_transform(ctx: Context, x: Tensor, axes: Sequence[int], n: Size | None, sign: int, scale: int) -> Tensor:
    """From real numbers, the first half along the last of ``axes`` (of length ``n``, by default the tensor's)."""
    *others, last = axes
    first = Step(last, x.shape[last] if n is None or n == -1 else n, ctx.out.shape[last])
    steps = (first, *(Step(a, ctx.out.shape[a], ctx.out.shape[a]) for a in others))
    return Transform(steps, sign, scale).apply(ctx, x)


def real_transform(ctx: Context, x: Tensor, axes: Sequence[int], sign: int, scale: int) -> Tensor:
    """To real numbers from the first half along the last of ``axes``.

    Imaginary parts of the constant and of the middle coefficient do not count.
    """
    *others, last = axes
    steps = [Step(a, ctx.out.shape[a], ctx.out.shape[a]) for a in others]
    steps.append(Step(last, ctx.out.shape[last], ctx.out.shape[last], real=True))
    return Transform(tuple(steps), sign, scale).apply(ctx, x)


def _register(name: str, sign: int, form: str) -> None:
    """The transform called ``name``: along one axis, along the last two, and along many."""

    def one(ctx: Context, x: Tensor, n: Size | None, dim: int, norm: str | None) -> Tensor:
        return many(ctx, x, None if n is None else [n], [dim], norm)

    def many(
        ctx: Context, x: Tensor, sizes: Sequence[Size] | None, dims: Sequence[int] | None, norm: str | None
    ) -> Tensor:
        axes = _listed(x, sizes, dims)
        if form == "complex":
            return complex_transform(ctx, x, axes, sign, _norm(norm, sign))
        if form == "half":
            return half_transform(ctx, x, axes, sizes[-1] if sizes else None, sign, _norm(norm, sign))
        return real_transform(ctx, x, axes, sign, _norm(norm, sign))

    lowers(f"aten.fft_{name}.default")(one)
    lowers(f"aten.fft_{name}2.default", f"aten.fft_{name}n.default")(many)


_register("fft", FORWARD, "complex")
_register("ifft", INVERSE, "complex")
_register("rfft", FORWARD, "half")
_register("ihfft", INVERSE, "half")
_register("irfft", INVERSE, "real")
_register("hfft", FORWARD, "real")


@lowers("aten._fft_c2c.default")
def fft_c2c(ctx: Context, x: Tensor, dims: Sequence[int], scale: int, forward: bool) -> Tensor:
    """Complex to complex."""
    return complex_transform(ctx, x, [axis(d, x.rank) for d in dims], FORWARD if forward else INVERSE, scale)


@lowers("aten._fft_r2c.default")
def fft_r2c(ctx: Context, x: Tensor, dims: Sequence[int], scale: int, onesided: bool) -> Tensor:
    """Real to complex: half of the results along the last axis, or all."""
    axes = [axis(d, x.rank) for d in dims]
    if onesided:
        return half_transform(ctx, x, axes, None, FORWARD, scale)
    return complex_transform(ctx, x, axes, FORWARD, scale)


@lowers("aten._fft_c2r.default")
def fft_c2r(ctx: Context, x: Tensor, dims: Sequence[int], scale: int, _n: object) -> Tensor:
    """Complex to real."""
    return real_transform(ctx, x, [axis(d, x.rank) for d in dims], INVERSE, scale)


@lowers("aten.fft_fftfreq.default")
def fftfreq(ctx: Context, n: Size, step: float, *_options: object) -> Tensor:
    """``0, 1, …, -2, -1`` over ``n * step``."""
    middle = (index(n) + 1) // 2

    def body(i: Iter) -> Scalar:
        near, far = position(i, ctx.dtype), position(index(i) - n, ctx.dtype)
        return apply("mul", select(guard((0, i, middle)), near, far), _spacing(n, step, ctx.dtype))

    return ctx.pointwise(body)


@lowers("aten.fft_rfftfreq.default")
def rfftfreq(ctx: Context, n: Size, step: float, *_options: object) -> Tensor:
    """``0, 1, …, n // 2`` over ``n * step``."""
    return ctx.pointwise(lambda i: apply("mul", position(i, ctx.dtype), _spacing(n, step, ctx.dtype)))


def _spacing(n: Size, step: float, dtype: DType) -> Scalar:
    if isinstance(n, int):
        return const(1 / (n * step), dtype)
    return apply("reciprocal", apply("mul", position(n, dtype), step))
