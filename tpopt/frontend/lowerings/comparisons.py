"""Comparisons, logic and bits: two operands, pointwise."""

from __future__ import annotations

from tpopt.frontend.context import Context, Operand, broadcast
from tpopt.frontend.promotion import Kind, computation_dtype, pointwise
from tpopt.frontend.registry import Lowering, Lowerings
from tpopt.ir import DType, Iter, Scalar, Tensor, apply, cast

lowers = Lowerings()

_COMPARISONS = "eq ne lt le gt ge".split()


def _comparison(name: str) -> Lowering:
    def lower(ctx: Context, x: Operand, y: Operand) -> Tensor:
        return pointwise(ctx, lambda a, b: apply(name, a, b), x, y, kind=Kind.EXACT)

    return lower


for _name in _COMPARISONS:
    lowers(f"aten.{_name}.Tensor", f"aten.{_name}.Scalar")(_comparison(_name))


def _logical(name: str) -> Lowering:
    def lower(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
        def truth(t: Tensor, i: tuple[Iter, ...]) -> Scalar:
            return cast(broadcast(t, i, t.dtype), DType.BOOL)

        return ctx.pointwise(lambda *i: apply(name, truth(x, i), truth(y, i)))

    return lower


for _name in ("and", "or", "xor"):
    lowers(f"aten.logical_{_name}.default")(_logical(_name))


def _bitwise(name: str) -> Lowering:
    def lower(ctx: Context, x: Operand, y: Operand) -> Tensor:
        dtype = computation_dtype(Kind.EXACT, (x, y))
        if not (dtype.is_integer or dtype is DType.BOOL):
            raise ctx.refuse(f"bits of {dtype} are left to torch")
        return pointwise(ctx, lambda a, b: apply(name, a, b), x, y, kind=Kind.EXACT)

    return lower


for _python, _torch, _name in (
    ("and", "bitwise_and", "and"),
    ("or", "bitwise_or", "or"),
    ("xor", "bitwise_xor", "xor"),
    ("lshift", "bitwise_left_shift", "shl"),
    ("rshift", "bitwise_right_shift", "shr"),
):
    _scalar = "Tensor_Scalar" if _name in ("shl", "shr") else "Scalar"
    lowers(
        f"aten.__{_python}__.Tensor",
        f"aten.__{_python}__.Scalar",
        f"aten.{_torch}.Tensor",
        f"aten.{_torch}.{_scalar}",
        f"aten.{_torch}.Scalar_Tensor",
    )(_bitwise(_name))
