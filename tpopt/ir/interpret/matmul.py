"""Matrix products over the last two axes that reach BLAS."""

from __future__ import annotations

import numpy as np

from tpopt.ir.program import Array

_EXACT = 2**53  # integers below it in magnitude are exact in float64


def real_matmul(left: Array, right: Array) -> Array:
    """float64 or complex128 product; operands whose strides BLAS refuses are copied first, where numpy would loop."""
    return np.asarray(np.matmul(_blas_ready(left), _blas_ready(right)))


def integer_matmul(left: Array, right: Array) -> Array:
    """Product with wrap-around at the operands' width, through float64 where that is exact."""
    if not left.size or not right.size:
        return np.asarray(np.matmul(left, right))
    if _largest(left) * _largest(right) * left.shape[-1] < _EXACT:
        exact = real_matmul(left.astype(np.float64), right.astype(np.float64))
        return np.asarray(exact.astype(np.int64).astype(left.dtype))
    return np.asarray(np.matmul(left, right))


def _largest(value: Array) -> int:
    return max(abs(int(value.max())), abs(int(value.min())))


def _blas_ready(value: Array) -> Array:
    item, (down, across), (rows, columns) = value.itemsize, value.strides[-2:], value.shape[-2:]
    by_rows = across == item and down >= columns * item
    by_columns = down == item and across >= rows * item
    return (
        value
        if by_rows or by_columns or (1 in value.shape[-2:] and item in (down, across))
        else np.ascontiguousarray(value)
    )
