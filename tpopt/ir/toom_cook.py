"""The matrices of Toom-Cook correlation: fewer products for a sliding sum, with exact rationals.

``m`` neighbouring results of a sum over ``r`` taps, ``y[i] = sum over k of d[i + k] g[k]``, take ``n = m + r - 1``
products::

    y[i] = sum over j of sums[i, j] * (sum over k of taps[j, k] g[k]) * (sum over l of data[j, l] d[l])

Source: Winograd, Arithmetic Complexity of Computations (1980); for images Lavin and Gray (2016). The points are 0, 1,
-1, 2, -2, 1/2, ... and infinity; rows of ``data`` are scaled to small integers where the points are integers.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final

Matrix = tuple[tuple[Fraction, ...], ...]

PARTS: Final = ("sums", "taps", "data")
POINTS: Final = tuple(
    Fraction(n, d) for n, d in ((0, 1), (1, 1), (-1, 1), (2, 1), (-2, 1), (1, 2), (-1, 2), (4, 1), (-4, 1))
)
"""Small numbers first: large ones and their powers are what rounding errors grow with."""
MOST_PRODUCTS: Final = len(POINTS) + 1


@lru_cache(maxsize=64)
def matrix(part: str, m: int, r: int) -> Matrix:
    """``sums`` (m by n), ``taps`` (n by r) or ``data`` (n by n). Raises :class:`ValueError` beyond ten products."""
    size = m + r - 1
    if part not in PARTS or m < 1 or r < 1 or size > MOST_PRODUCTS:
        raise ValueError(
            f"toom_cook({part}, {m}, {r}): expected a part of {PARTS}, and m + r - 1 up to {MOST_PRODUCTS}"
        )
    points = POINTS[: size - 1]
    scale = [_distance(p, points) for p in points]
    if part == "sums":
        return tuple((*(p**i for p in points), Fraction(i == m - 1)) for i in range(m))
    if part == "taps":
        rows = [tuple(p**k / s for k in range(r)) for p, s in zip(points, scale, strict=True)]
        return (*rows, tuple(Fraction(k == r - 1) for k in range(r)))
    powers = [[*(p**s for p in points), Fraction(s == size - 1)] for s in range(size)]
    inverse = _inverse(powers)
    return tuple(tuple(s * v for v in row) for s, row in zip((*scale, Fraction(1)), inverse, strict=True))


def amplification(m: int, r: int) -> float:
    """How much larger the rounding error of one axis is than that of the plain sum, for random data.

    The root mean square, over the ``m`` results, of what the transforms make of unit errors in every product.
    """
    sums, taps, data = (matrix(part, m, r) for part in PARTS)
    sizes = [sum(v * v for v in t) * sum(v * v for v in d) for t, d in zip(taps, data, strict=True)]
    total = sum(a * a * s for row in sums for a, s in zip(row, sizes, strict=True))
    return float(total / (m * r)) ** 0.5


def _distance(point: Fraction, points: tuple[Fraction, ...]) -> Fraction:
    total = Fraction(1)
    for other in points:
        if other != point:
            total *= point - other
    return total


def _inverse(given: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss and Jordan's elimination."""
    size = len(given)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(given)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [v / rows[column][column] for v in rows[column]]
        for i in range(size):
            if i != column and rows[i][column]:
                rows[i] = [a - rows[i][column] * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]
