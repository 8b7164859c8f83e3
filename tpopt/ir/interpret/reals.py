"""The reference arithmetic: floats in float64, complex numbers in complex128, integers at their width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from tpopt.ir.dtypes import DType
from tpopt.ir.interpret import monoids
from tpopt.ir.interpret.arithmetic import Arrays
from tpopt.ir.interpret.functions import COMPLEX, INTEGERS, REALS, Implementation
from tpopt.ir.interpret.matmul import integer_matmul, real_matmul
from tpopt.ir.interpret.rounding import round_to
from tpopt.ir.program import Array
from tpopt.ir.terms import Number

_UFUNC_AT = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def implementation(function: str, dtype: DType) -> Implementation:
    """The numpy implementation of a function on arguments of ``dtype``."""
    if dtype.is_complex and function in COMPLEX:
        return COMPLEX[function]
    if not (dtype.is_float or dtype.is_complex) and function in INTEGERS:
        return INTEGERS[function]
    return REALS[function]


@dataclass(frozen=True)
class Reals:
    """Real numbers in float64. ``rounding``: round to the tensor's type at every Cast and stage output."""

    rounding: bool = False

    def storage(self, dtype: DType) -> np.dtype[Any]:
        if dtype.is_float:
            return np.dtype(np.float64)
        if dtype.is_complex:
            return np.dtype(np.complex128)
        return plain_storage(dtype)

    def constant(self, value: Number, dtype: DType) -> Array:
        return np.asarray(value).astype(self.storage(dtype))

    def apply(self, function: str, args: Sequence[Array], dtype: DType, result: DType) -> Array:
        call = implementation(function, dtype)
        with np.errstate(all="ignore"):
            folds = len(args) > 2 and function != "where"
            value = reduce(call, args) if folds else call(*args)
        return np.asarray(value).astype(self.storage(result), copy=False)

    def cast(self, value: Array, source: DType, target: DType) -> Array:
        if self.keeps(source, target):
            return value
        with np.errstate(all="ignore"):
            if source.is_complex and not target.is_complex:
                value = value != 0 if target is DType.BOOL else value.real
            if target.is_integer and value.dtype.kind == "f":
                value = np.trunc(value).astype(np.int64)
            return (
                round_to(value.astype(self.storage(target)), target)
                if self.rounding
                else value.astype(self.storage(target))
            )

    def keeps(self, source: DType, target: DType) -> bool:
        if source is target:
            return True
        both = (source.is_float and target.is_float) or (source.is_complex and target.is_complex)
        return both and not (self.rounding and not _contains(target, source))

    def stored(self, value: Array, dtype: DType) -> Array:
        return round_to(value, dtype) if self.rounding and (dtype.is_float or dtype.is_complex) else value

    def fold(self, monoid: str, values: Arrays, dtypes: Sequence[DType], axes: tuple[int, ...]) -> Arrays:
        with np.errstate(all="ignore"):
            return monoids.fold(monoid, values, axes)

    def merge(self, monoid: str, left: Arrays, right: Arrays, dtypes: Sequence[DType]) -> Arrays:
        with np.errstate(all="ignore"):
            return monoids.merge(monoid, left, right)

    def contracts(self, dtype: DType) -> bool:
        return dtype is not DType.BOOL

    def matmul(self, left: Array, right: Array, dtype: DType) -> Array:
        with np.errstate(all="ignore"):
            return integer_matmul(left, right) if dtype.is_integer else real_matmul(left, right)

    def finite(self, value: Array) -> bool:
        return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())

    def scatter(self, op: str, out: Array, where: Array, values: Array, dtype: DType) -> None:
        if op == "set":  # numpy assigns repeated positions in order: the last one stays
            out[where] = values
        else:
            with np.errstate(all="ignore"):
                _UFUNC_AT[op].at(out, where, values)

    def order(self, values: Array, dtype: DType, axis: int, descending: bool) -> Array:
        return stable_order(values, axis, descending)

    def lookup(self, values: Array, low: Array, high: Array) -> tuple[Array, Array]:
        return values, np.asarray((values < low) | (values >= high))


def plain_storage(dtype: DType) -> np.dtype[Any]:
    """numpy's integer or bool type of that width."""
    if dtype is DType.BOOL:
        return np.dtype(np.bool_)
    return np.dtype(f"{'u' if dtype is DType.U8 else 'i'}{dtype.itemsize}")


def stable_order(values: Array, axis: int, descending: bool) -> Array:
    """Stable sorting positions; in descending order, equal elements keep their order too."""
    if not descending:
        return np.asarray(np.argsort(values, axis=axis, kind="stable"))
    last = values.shape[axis] - 1
    turned = np.argsort(np.flip(values, axis=axis), axis=axis, kind="stable")
    return np.asarray(last - np.flip(turned, axis=axis))


_WIDTH = {DType.F16: (11, 5), DType.BF16: (8, 8), DType.F32: (24, 8), DType.F64: (53, 11)}  # significand, exponent bits


def _contains(wide: DType, narrow: DType) -> bool:
    (s, e), (t, f) = _WIDTH[wide.real], _WIDTH[narrow.real]
    return s >= t and e >= f
