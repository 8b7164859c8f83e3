"""Arrays of weights that are given by a formula."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tpopt.ir.program import Array
from tpopt.ir.structure import Structure


def materialize(structure: Structure, shape: Sequence[int]) -> Array | None:
    """The array that a structure determines, or ``None`` where it leaves values open."""
    parameters = [p for p in structure.parameters if isinstance(p, int)]
    match structure.kind:
        case "dft":
            n, rows, columns, sign = parameters
            turns = dft_exponents(n, rows, columns)  # reduced first, so that the angle is exact to the last bit
            matrix: Array = np.exp(2j * np.pi * sign * turns / n)
        case "identity":
            matrix = np.eye(shape[-2], shape[-1])
        case "permutation" | "one_hot":
            matrix = np.zeros((shape[-2], shape[-1]))
            matrix[np.arange(len(parameters)), parameters] = 1.0
        case _:
            return None
    return np.broadcast_to(matrix, tuple(shape))


def dft_exponents(n: int, rows: int, columns: int) -> Array:
    """``r * c mod n``."""
    return np.outer(np.arange(rows, dtype=np.int64), np.arange(columns, dtype=np.int64)) % n
