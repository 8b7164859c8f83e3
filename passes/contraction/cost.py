"""What one product of two operands is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FOLDED = 1e-9
"""Share of its time that a product of constants counts: it is taken once, and decides among orders that are equal."""


@dataclass(frozen=True)
class Cost:
    """Time of one pairwise product: the larger of its multiply-adds and its traffic, and a start.

    ``macs_per_us`` are multiply-adds, ``elements_per_us`` elements moved (read or written) in a microsecond, and
    ``start_us`` is the time of an empty call. The defaults are round figures of two cores with 512-bit vectors; an
    infinite ``elements_per_us`` and no ``start_us`` count multiply-adds alone. ``most_elements`` bounds every result.
    """

    macs_per_us: float = 40_000.0
    elements_per_us: float = 4_000.0
    start_us: float = 2.0
    most_elements: float = float(1 << 28)

    def product(self, macs: Floats | float, elements: Floats | float) -> Floats:
        """Microseconds of products with these multiply-adds that read and write that many elements."""
        compute = np.asarray(macs, np.float64) / self.macs_per_us
        return np.maximum(compute, np.asarray(elements, np.float64) / self.elements_per_us) + self.start_us


MACS = Cost(1.0, float("inf"), 0.0, float("inf"))
"""Counts multiply-adds."""
