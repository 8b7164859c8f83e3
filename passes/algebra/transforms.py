"""Fourier transforms of known values: by the fast algorithm, where the algebra would take a dense matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tpopt.ir import Kernel, Tensor
from tpopt.ir.materialize import is_formula
from tpopt.ir.program import Array

FFT: Final = "fft"


def is_transform(kernel: Kernel) -> bool:
    """Whether a kernel is a Fourier transform of one tensor: what else it reads are matrices given by formulas."""
    return (
        kernel.implementation == FFT
        and len(kernel.outs) == 1
        and all(is_formula(t.structure) for t in kernel.reads[1:])
    )


def transformed_tensor(kernel: Kernel) -> Tensor:
    """What a transform is taken of."""
    return kernel.reads[0]


def transformed(kernel: Kernel, value: Array) -> Array:
    """The result of a transform kernel in complex128 or float64; axes are those of the tensor that it reads.

    ``kind`` is ``r2c`` (real numbers first, along the first of ``axes``), ``c2r`` (to real numbers, along the last) or
    ``c2c``; the exponent has ``sign``; the result is divided by nothing, the root of the length, or the length
    (``scale`` 0, 1, 2). Inputs are cut or padded with zeros to ``sizes``. Source: Cooley, Tukey 1965, as NumPy has it.
    """
    facts = dict(kernel.parameters)
    axes, sizes = _numbers(facts["axes"]), _numbers(facts["sizes"])
    kind, sign, scale = facts["kind"], facts["sign"], facts["scale"]
    current = np.asarray(value, dtype=np.float64 if kind == "r2c" else np.complex128)
    for place, (axis, n) in enumerate(zip(axes, sizes, strict=True)):
        if kind == "r2c" and place == 0:
            half = np.fft.rfft(current, n, axis)
            current = half if sign == -1 else half.conj()
        elif kind == "c2r" and place == len(axes) - 1:
            whole = current if sign == 1 else current.conj()
            current = np.fft.irfft(whole, n, axis, norm="forward")
        else:
            current = np.fft.fft(current, n, axis) if sign == -1 else np.fft.ifft(current, n, axis, norm="forward")
    length = float(np.prod(sizes))
    return current / (1.0, np.sqrt(length), length)[_number(scale)]


def _numbers(value: object) -> Sequence[int]:
    assert isinstance(value, tuple)
    return [_number(v) for v in value]


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
