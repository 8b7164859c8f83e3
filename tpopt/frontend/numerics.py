"""Types to accumulate in, identities of extremes, and arguments that have to be plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tpopt.frontend.registry import NoAlgebra
from tpopt.ir import DType, Index, Iter, Scalar, apply, total
from tpopt.ir.terms import Const, Number, cast, const

_BITS = {DType.I64: 63, DType.I32: 31, DType.I16: 15, DType.I8: 7}


def wide(dtype: DType) -> DType:
    """The type torch accumulates in: f32 for f16 and bf16, itself otherwise."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


def lowest(dtype: DType) -> Const:
    """The value that no element of an ordered type is below: the identity of ``max``."""
    if dtype.is_float:
        return const(-math.inf, dtype)
    return const(-(2 ** _BITS[dtype]) if dtype in _BITS else 0, dtype)


def products(dtype: DType, summed: Sequence[Iter], *factors: Scalar) -> Scalar:
    """``sum[summed]{factor * factor * …}`` in the type that ``dtype`` accumulates in."""
    terms = [cast(f, wide(dtype)) for f in factors]
    return total(summed, terms[0] if len(terms) == 1 else apply("mul", *terms))


def scaled(term: Scalar, factor: Number) -> Scalar:
    """``factor * term``, the term itself for 1."""
    return term if factor == 1 else apply("mul", term, factor)


def number(value: object, what: str) -> int:
    """A plain integer argument. Raises :class:`NoAlgebra` when it is known only at run time."""
    if isinstance(value, Index) and value.constant is not None:
        return value.constant
    if isinstance(value, (bool, int)):
        return int(value)
    raise NoAlgebra(f"{what} is {value}, known only at run time")


def numbers(values: Any, count: int, what: str) -> tuple[int, ...]:
    """``count`` plain integers from one, or from a list of one or ``count``, as torch expands them."""
    listed = list(values) if isinstance(values, (list, tuple)) else [values]
    known = [number(v, what) for v in listed]
    if len(known) == 1:
        known *= count
    if len(known) != count:
        raise NoAlgebra(f"{what} lists {len(known)} values for {count} dimensions")
    return tuple(known)
