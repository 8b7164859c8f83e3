"""Rounding float64 values to the grid of a narrower type, and bf16 stored as bits."""

from __future__ import annotations

import numpy as np

from tpopt.ir.dtypes import DType
from tpopt.ir.program import Array

_NARROW = {DType.F32: np.float32, DType.F16: np.float16, DType.C64: np.complex64}


def round_to(value: Array, dtype: DType) -> Array:
    """The nearest number of ``dtype`` (ties to even), still held in float64 or complex128."""
    if dtype in _NARROW:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return np.asarray(np.asarray(value).astype(_NARROW[dtype]).astype(value.dtype))
    return round_bf16(value) if dtype is DType.BF16 else value


def round_bf16(value: Array) -> Array:
    """Nearest bf16, ties to even, directly from float64: rounding to f32 first would round twice.

    bf16 keeps 8 significant bits and has the exponents of f32: below 2**-126 its grid is 2**-133, and what rounds
    to 2**128 or beyond is infinite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        _, exponent = np.frexp(value)
        step = np.ldexp(1.0, np.maximum(exponent - 8, -133))
        rounded = np.rint(value / step) * step
        rounded = np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, rounded), rounded)
    return np.asarray(np.where(np.isfinite(value), rounded, value))


def bf16_values(bits: Array) -> Array:
    """The numbers that bits in ``uint16`` stand for, in float32, which holds them exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
