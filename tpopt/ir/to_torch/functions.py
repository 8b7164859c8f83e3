"""Every scalar function of the IR as a torch function."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor

_SAME_NAME = (
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid"
    " erf erfc erfinv lgamma digamma ceil floor round trunc neg abs sign reciprocal isnan isinf signbit real imag conj"
    " angle complex sub div fmod pow atan2 hypot copysign fmax fmin eq ne lt le gt ge where"
).split()


def _chain(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda *args: reduce(run, args)


def _division(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Integer division that yields 0 for a zero divisor, where torch raises."""

    def divide(a: Tensor, b: Tensor) -> Tensor:
        if a.is_floating_point():
            return run(a, b)
        zero = b == 0
        return run(a, b.masked_fill(zero, 1)).masked_fill(zero, 0)

    return divide


def _floordiv(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="floor")


def _truncdiv(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="trunc")


def _table() -> dict[str, Callable[..., Tensor]]:
    table: dict[str, Callable[..., Tensor]] = {name: getattr(torch, name) for name in _SAME_NAME}
    table |= {
        "not": torch.bitwise_not,
        "add": _chain(torch.add),
        "mul": _chain(torch.mul),
        "max": _chain(torch.maximum),
        "min": _chain(torch.minimum),
        "and": _chain(torch.bitwise_and),
        "or": _chain(torch.bitwise_or),
        "xor": _chain(torch.bitwise_xor),
        "floordiv": _division(_floordiv),
        "truncdiv": _division(_truncdiv),
        "mod": _division(torch.remainder),
        "fmod": _division(torch.fmod),
        "shl": torch.bitwise_left_shift,
        "shr": torch.bitwise_right_shift,
    }
    return table


FUNCTIONS = MappingProxyType(_table())


def convert(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A cast: float to integer truncates, to bool tests for non-zero, complex to real takes the real part."""

    def run(value: Tensor) -> Tensor:
        if value.is_complex() and not dtype.is_complex:
            return value != 0 if dtype is torch.bool else value.real.to(dtype)
        return value.to(dtype)

    return run
