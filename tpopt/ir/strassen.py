"""Strassen's bilinear form: the product of two matrices in four blocks each by seven products instead of eight.

With ``A`` cut into blocks ``A[i,l]``, ``B`` into ``B[l,j]`` and ``C = A B`` into ``C[i,j]``::

    C[i,j] = sum over p of sums[i,j,p] * (sum over i,l of left[p,i,l] A[i,l]) * (sum over l,j of right[p,l,j] B[l,j])

Source: Strassen, "Gaussian elimination is not optimal", Numer. Math. 13 (1969). Its errors grow less than those
of the form with fewer additions (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 23.2.2).
"""

from __future__ import annotations

from math import sqrt
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

PRODUCTS: Final = 7
"""Products of blocks."""

TENSORS: Final[MappingProxyType[str, npt.NDArray[np.int64]]] = MappingProxyType(
    {
        "left": np.array(
            [
                [[1, 0], [0, 1]],
                [[0, 0], [1, 1]],
                [[1, 0], [0, 0]],
                [[0, 0], [0, 1]],
                [[1, 1], [0, 0]],
                [[-1, 0], [1, 0]],
                [[0, 1], [0, -1]],
            ]
        ),
        "right": np.array(
            [
                [[1, 0], [0, 1]],
                [[1, 0], [0, 0]],
                [[0, 1], [0, -1]],
                [[-1, 0], [1, 0]],
                [[0, 0], [0, 1]],
                [[1, 1], [0, 0]],
                [[0, 0], [1, 1]],
            ]
        ),
        "sums": np.array(
            [
                [[1, 0, 0, 1, -1, 0, 1], [0, 0, 1, 0, 1, 0, 0]],
                [[0, 1, 0, 1, 0, 0, 0], [1, -1, 1, 0, 0, 1, 0]],
            ]
        ),
    }
)
"""The three parts of the form, by name."""


def amplification() -> float:
    """How much larger the rounding error is than that of the plain product, for random matrices.

    The root mean square, over the blocks of the result, of what sums of blocks make of unit errors in every product,
    which has half the terms.
    """
    left, right, sums = (np.asarray(TENSORS[part], np.float64) ** 2 for part in ("left", "right", "sums"))
    sizes = left.sum((1, 2)) * right.sum((1, 2))
    return sqrt(float((sums @ sizes).mean()) / 2)
