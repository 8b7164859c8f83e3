"""Arithmetic modulo ``prime * companion``, vectorised on ``int64``.

A value is checked modulo ``prime``, which has roots of unity of every order that a transform needs. It travels also
modulo ``companion``, a prime that divides ``prime - 1``: what stands in an exponent lives there, so that
``exp(a) * exp(b) = exp(a + b)`` holds exactly (no map from a prime field to itself does that). Both residues are held
as one number modulo their product.

Source of the pair of primes: Wu et al., "Mirage", section on verification, after Schwartz and Zippel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np

from tpopt.errors import UnsupportedInput, UsageError
from tpopt.ir.program import Array

TRANSFORMS = 2**20 * 3**5 * 5**2 * 7 * 11 * 13
"""Every prime of a field is 1 modulo this: orders that divide it have roots of unity."""

PRIME = 83 * TRANSFORMS + 1
"""The one below 2**50 with the largest companion (83) whose product with it stays below 2**56."""

_LIMIT = 2**56  # of the modulus; see Field.mul
_LIMB = 19  # bits: three of them hold a value below 2**56
_CHUNK = 2**15  # summands: 2**15 * (2**19)**2 = 2**53, the last exact integer of float64


@dataclass(frozen=True)
class Field:
    """The field modulo ``prime`` with its companion. Raises :class:`UsageError` for a prime that cannot serve."""

    prime: int = PRIME

    def __post_init__(self) -> None:
        if self.prime % TRANSFORMS != 1 or not is_prime(self.prime) or 2 * self.prime >= _LIMIT:
            raise UsageError(
                f"prime={self.prime}: expected a prime that is 1 modulo {TRANSFORMS} and below {_LIMIT // 2}"
            )

    @cached_property
    def factors(self) -> tuple[int, ...]:
        """Distinct primes that divide ``prime - 1``."""
        return prime_factors(self.prime - 1)

    @cached_property
    def companion(self) -> int:
        """The largest prime that divides ``prime - 1`` and keeps the modulus below its limit."""
        return max(q for q in self.factors if q * self.prime < _LIMIT)

    @cached_property
    def modulus(self) -> int:
        return self.prime * self.companion

    @cached_property
    def generator(self) -> int:
        """The smallest generator of the multiplicative group modulo ``prime``."""
        order = self.prime - 1
        return next(g for g in range(2, 1000) if all(pow(g, order // f, self.prime) != 1 for f in self.factors))

    def join(self, value: int, exponent: int) -> int:
        """The number that is ``value`` modulo ``prime`` and ``exponent`` modulo ``companion``."""
        low = value % self.prime
        return low + self.prime * ((exponent - low) * pow(self.prime, -1, self.companion) % self.companion)

    def root(self, order: int) -> int:
        """A primitive root of unity; its powers are the roots of the orders that divide this one.

        Raises :class:`UnsupportedInput` where none exists.
        """
        if (self.prime - 1) % order:
            raise UnsupportedInput(
                f"no root of unity of order {order} modulo {self.prime}: orders divide {self.prime - 1}"
            )
        return self.join(pow(self.generator, (self.prime - 1) // order, self.prime), 1)

    def ratio(self, numerator: int, denominator: int) -> int:
        """A rational number. Raises :class:`UnsupportedInput` where the denominator is 0 in the field."""
        if gcd(denominator, self.modulus) != 1:
            raise UnsupportedInput(f"{numerator}/{denominator} has no value modulo {self.modulus}")
        return numerator * pow(denominator, -1, self.modulus) % self.modulus

    def reduce(self, value: Array) -> Array:
        """Residues of ``int64`` numbers. (Division by one number is vectorised in numpy; the remainder is not.)"""
        return np.asarray(value - value // self.modulus * self.modulus)

    def add(self, a: Array, b: Array) -> Array:
        return self.reduce(a + b)

    def sub(self, a: Array, b: Array) -> Array:
        return self.reduce(a - b)

    def mul(self, a: Array, b: Array) -> Array:
        """Products of residues, exact.

        With m the modulus, ``q = trunc(fl(a) * fl(b) / fl(m))`` carries five roundings (three conversions, a product,
        a quotient), each by a factor within 1 ± 2**-53, so it misses the true quotient ``Q < m < 2**56`` by at most
        ``Q * ((1 + 2**-53)**4 / (1 - 2**-53) - 1) + 1 < 6 * 2**-53 * 2**56 + 1 = 49``. Hence ``a*b - q*m`` lies within
        ``49 * 2**56 < 2**62`` of zero: it is the true value even though both products wrap around at 64 bits.
        """
        with np.errstate(over="ignore"):
            quotient = (np.asarray(a).astype(np.float64) * b / float(self.modulus)).astype(np.int64)
            return self.reduce(a * b - quotient * self.modulus)

    def power(self, a: Array, exponent: int) -> Array:
        """``a**exponent`` for ``exponent >= 0``."""
        result = np.ones_like(a)
        for bit in bin(exponent)[2:]:
            result = self.mul(result, result)
            if bit == "1":
                result = self.mul(result, a)
        return result

    def inverse(self, a: Array) -> Array:
        """``1 / a`` in each of the two fields, 0 for 0: every unit's order divides the exponent plus one."""
        order = (self.prime - 1) * (self.companion - 1) // gcd(self.prime - 1, self.companion - 1)
        return self.power(a, order - 1)

    def symmetric(self, a: Array) -> Array:
        """The representative modulo ``prime`` nearest to zero: what ordered functions compare."""
        value = np.asarray(a - a // self.prime * self.prime)
        return np.where(value > self.prime // 2, value - self.prime, value)

    def matmul(self, a: Array, b: Array) -> Array:
        """Matrix products through float64: limbs of 19 bits, so that every partial sum is exact."""
        total: Array | None = None
        for start in range(0, max(1, a.shape[-1]), _CHUNK):
            part = self._matmul(a[..., start : start + _CHUNK], b[..., start : start + _CHUNK, :])
            total = part if total is None else self.add(total, part)
        assert total is not None
        return total

    def _matmul(self, a: Array, b: Array) -> Array:
        left, right = limbs(a), limbs(b)
        total: Array | None = None
        for weight in range(5):
            pairs = [(i, weight - i) for i in range(3) if 0 <= weight - i < 3]
            places = [np.matmul(left[i], right[j]).astype(np.int64) for i, j in pairs]  # at most three below 2**53
            part = self.reduce(np.asarray(sum(places)))
            scaled = self.mul(part, np.asarray(pow(2, _LIMB * weight, self.modulus)))
            total = scaled if total is None else self.add(total, scaled)
        assert total is not None
        return total

    def total(self, a: Array, axes: tuple[int, ...]) -> Array:
        """Sums over axes, kept with extent 1: halves of 28 bits apart, so that 2**34 summands cannot overflow."""
        high, low = a >> 28, a & (2**28 - 1)
        top = self.reduce(np.add.reduce(high, axis=axes, keepdims=True))
        bottom = self.reduce(np.add.reduce(low, axis=axes, keepdims=True))
        return self.add(self.mul(top, np.asarray(2**28)), bottom)


def limbs(a: Array) -> tuple[Array, Array, Array]:
    """Three digits in base ``2**19``, as float64."""
    mask = 2**_LIMB - 1
    low, middle, high = a & mask, (a >> _LIMB) & mask, a >> (2 * _LIMB)
    return low.astype(np.float64), middle.astype(np.float64), high.astype(np.float64)


def prime_factors(n: int) -> tuple[int, ...]:
    """Distinct prime factors, by trial division: for numbers that are smooth but for a small factor."""
    found, f = list[int](), 2
    while n > 1 and f * f <= n:
        if n % f == 0:
            found.append(f)
            while n % f == 0:
                n //= f
        f += 1
    return (*found, n) if n > 1 else tuple(found)


def is_prime(n: int) -> bool:
    """Miller and Rabin's test with the bases that decide every number below 2**64."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if n < 2 or any(n % b == 0 for b in bases):
        return n in bases
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
