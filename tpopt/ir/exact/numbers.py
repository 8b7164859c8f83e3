"""Extended residues: a residue, or one of three markers for what has no place in a field.

Markers are the negative numbers, so an array without them is told by its minimum. Where a marker takes part in an
operation, the operation runs in float64 on stand-ins: the marker itself, and the sign of an ordinary number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isnan

import numpy as np

from tpopt.ir.exact.field import Field
from tpopt.ir.program import Array

INFINITE, NEGATIVE_INFINITE, UNDEFINED = -1, -2, -3
SMALL = 2**24
"""Symmetric representatives below it in magnitude count as integers: rounding and remainders are exact on them."""

_FAR = 2**62  # beyond every symmetric representative


@dataclass(frozen=True)
class Numbers:
    """Extended residues of a field."""

    field: Field

    def encode(self, value: float) -> int:
        """The number a float is, exactly; infinities and NaN by their markers."""
        if isnan(value):
            return UNDEFINED
        if value in (float("inf"), float("-inf")):
            return INFINITE if value > 0 else NEGATIVE_INFINITE
        exact = Fraction(value)
        return self.field.ratio(exact.numerator, exact.denominator)

    def encode_all(self, values: Array) -> Array:
        """:meth:`encode` of each element; meant for few distinct values."""
        distinct, inverse = np.unique(values, return_inverse=True)
        table = np.array([self.encode(float(v)) for v in distinct], dtype=np.int64)
        return np.asarray(table[inverse.reshape(values.shape)] if values.size else np.zeros(values.shape, np.int64))

    def ordinary(self, value: Array) -> Array:
        """The residues, 0 in place of markers."""
        return np.maximum(value, 0)

    def standing(self, value: Array) -> Array:
        """float64 stand-ins: markers as what they mean, numbers by their sign."""
        out = np.sign(self.field.symmetric(self.ordinary(value))).astype(np.float64)
        for marker, meant in ((INFINITE, np.inf), (NEGATIVE_INFINITE, -np.inf), (UNDEFINED, np.nan)):
            out[value == marker] = meant
        return out

    def keys(self, value: Array, undefined: int = _FAR + 1) -> Array:
        """What ordered functions compare: symmetric representatives, infinities beyond them, NaN as given."""
        keys = self.field.symmetric(self.ordinary(value))
        if not marked(value):
            return keys
        keys = np.array(keys)
        for marker, key in ((INFINITE, _FAR), (NEGATIVE_INFINITE, -_FAR), (UNDEFINED, undefined)):
            keys[value == marker] = key
        return keys

    def residues(self, value: Array) -> Array:
        """Values modulo the prime, markers as they are: what is checked, and what random functions depend on."""
        return np.where(value < 0, value, value - value // self.field.prime * self.field.prime)

    def extend(
        self,
        args: Sequence[Array],
        compute: Callable[..., Array],
        real: Callable[..., Array],
        more: Array | None = None,
    ) -> Array:
        """``compute`` on the residues, but ``real`` on stand-ins where an argument is marked or ``more`` holds."""
        with np.errstate(all="ignore"):
            value = compute(*(self.ordinary(a) for a in args))
            odd = np.zeros(value.shape, bool) if more is None else np.broadcast_to(more, value.shape)
            for arg in args:
                if marked(arg):
                    odd = odd | (arg < 0)
            if not odd.any():
                return value
            stand = [np.broadcast_to(self.standing(np.atleast_1d(a)).reshape(a.shape), value.shape)[odd] for a in args]
            value = np.array(value)
            value[odd] = self.encode_all(np.asarray(real(*stand), dtype=np.float64))
        return value


def marked(value: Array) -> bool:
    """Whether an array holds a marker."""
    return bool(value.size) and bool(value.min() < 0)
