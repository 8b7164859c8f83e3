"""Complex numbers: parts, conjugates, construction."""

from __future__ import annotations

import math

from tpopt.frontend.context import Context, broadcast
from tpopt.frontend.promotion import Kind, computation_dtype
from tpopt.frontend.registry import Lowerings
from tpopt.ir import Iter, Scalar, Tensor, apply, cast, const, guard, select, where

lowers = Lowerings()


@lowers("aten.real.default", "aten.imag.default")
def part(ctx: Context, x: Tensor) -> Tensor:
    """The real or imaginary part; a real tensor is its own real part."""
    name = ctx.target.split(".")[1]
    if not x.dtype.is_complex:
        return x
    return ctx.pointwise(lambda *i: apply(name, x.at(i)))


@lowers("aten.conj.default", "aten._conj.default", "aten.conj_physical.default", "aten._conj_physical.default")
def conjugate(ctx: Context, x: Tensor) -> Tensor:
    """The complex conjugate; a real tensor is its own."""
    return ctx.pointwise(lambda *i: apply("conj", x.at(i))) if x.dtype.is_complex else x


@lowers("aten._neg_view.default")
def negated_view(ctx: Context, x: Tensor) -> Tensor:
    """``-x``."""
    return ctx.pointwise(lambda *i: apply("neg", x.at(i)))


@lowers("aten.view_as_real.default", "aten.view_as_real_copy.default")
def view_as_real(ctx: Context, x: Tensor) -> Tensor:
    """A last axis of two: the real part, the imaginary part."""

    def body(*i: Iter) -> Scalar:
        value = x.at(i[:-1])
        return select(guard((0, i[-1], 1)), apply("real", value), apply("imag", value))

    return ctx.pointwise(body)


@lowers("aten.view_as_complex.default", "aten.view_as_complex_copy.default")
def view_as_complex(ctx: Context, x: Tensor) -> Tensor:
    """The last axis of two as real and imaginary parts."""
    return ctx.pointwise(lambda *i: apply("complex", x.at((*i, 0)), x.at((*i, 1))))


@lowers("aten.complex.default")
def make_complex(ctx: Context, real: Tensor, imag: Tensor) -> Tensor:
    """``real + i*imag``."""
    dtype = ctx.dtype.real
    return ctx.pointwise(lambda *i: apply("complex", broadcast(real, i, dtype), broadcast(imag, i, dtype)))


@lowers("aten.polar.default")
def polar(ctx: Context, modulus: Tensor, angle: Tensor) -> Tensor:
    """``modulus * exp(i*angle)``."""
    dtype = ctx.dtype.real

    def body(*i: Iter) -> Scalar:
        r, a = broadcast(modulus, i, dtype), broadcast(angle, i, dtype)
        return apply("complex", r * apply("cos", a), r * apply("sin", a))

    return ctx.pointwise(body)


@lowers("aten.angle.default")
def angle(ctx: Context, x: Tensor) -> Tensor:
    """The argument of a complex number; of a real one 0 or π, NaN of NaN."""
    dtype = computation_dtype(Kind.FLOAT, (x,))

    def body(*i: Iter) -> Scalar:
        value = cast(x.at(i), dtype)
        if dtype.is_complex:
            return apply("angle", value)
        turned = where(apply("lt", value, 0), const(math.pi, dtype), 0)
        return cast(where(apply("isnan", value), value, turned), ctx.dtype)

    return ctx.pointwise(body)
