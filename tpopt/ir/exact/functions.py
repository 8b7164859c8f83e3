"""The scalar functions of the IR on extended residues.

* Field operations are exact: add, sub, mul, neg, div, reciprocal, powers with integer exponents, sums and products.
* ``exp``, ``exp2`` and ``expm1`` are exponentials of a group: ``exp(a) * exp(b) = exp(a + b)`` and ``exp(0) = 1`` hold.
* Ordered functions compare symmetric representatives: a total order of the field, the usual one on small integers.
* Rounding and remainders are exact on small integers.
* Everything else, and those outside their domain, is a seeded random function that agrees with the real one at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from tpopt.ir.dtypes import DType
from tpopt.ir.exact.field import Field
from tpopt.ir.exact.numbers import SMALL, UNDEFINED, Numbers
from tpopt.ir.exact.oracle import hashed, seed_of
from tpopt.ir.interpret.reals import implementation
from tpopt.ir.program import Array

_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_SIMPLE = (
    0.0,
    0.5,
    1.0,
    -1.0,
)  # values at 0 that a random function shares with the real one, besides infinities and NaN


@dataclass(frozen=True)
class Functions:
    """Functions of real arguments over a field, random ones drawn by ``seed``."""

    field: Field
    seed: int

    @cached_property
    def numbers(self) -> Numbers:
        return Numbers(self.field)

    def apply(self, name: str, args: Sequence[Array]) -> Array:
        """A function of one or more arrays that broadcast; predicates give bools."""
        if name in _COMPARE:
            return self._compare(name, *args)
        own: Callable[..., Array] | None = getattr(self, f"_{name}", None)
        if own is None:
            return self._random(name, *args)
        if len(args) > 2:
            return reduce(own, args)
        return own(*args)

    def _add(self, a: Array, b: Array) -> Array:
        return self.numbers.extend((a, b), self.field.add, np.add)

    def _sub(self, a: Array, b: Array) -> Array:
        return self.numbers.extend((a, b), self.field.sub, np.subtract)

    def _mul(self, a: Array, b: Array) -> Array:
        return self.numbers.extend((a, b), self.field.mul, np.multiply)

    def _neg(self, a: Array) -> Array:
        return self.numbers.extend((a,), lambda x: self.field.sub(np.zeros_like(x), x), np.negative)

    def _div(self, a: Array, b: Array) -> Array:
        nothing = self._zero(b)
        return self.numbers.extend((a, b), lambda x, y: self.field.mul(x, self.field.inverse(y)), np.divide, nothing)

    def _reciprocal(self, a: Array) -> Array:
        return self.numbers.extend((a,), self.field.inverse, lambda x: 1.0 / x, self._zero(a))

    def _zero(self, a: Array) -> Array:
        return np.asarray(self.numbers.residues(a) == 0)

    def _square(self, a: Array) -> Array:
        return self._mul(a, a)

    # Ordered functions

    def _compare(self, name: str, a: Array, b: Array) -> Array:
        result = _COMPARE[name](self.numbers.keys(a), self.numbers.keys(b))
        undefined = (a == UNDEFINED) | (b == UNDEFINED)
        return np.asarray(np.where(undefined, name == "ne", result))

    def _max(self, a: Array, b: Array) -> Array:
        return np.where(self.numbers.keys(a) >= self.numbers.keys(b), a, b)  # NaN is the greatest

    def _min(self, a: Array, b: Array) -> Array:
        lowest = -(2**62) - 1
        return np.where(self.numbers.keys(a, lowest) <= self.numbers.keys(b, lowest), a, b)

    def _fmax(self, a: Array, b: Array) -> Array:
        return np.where(a == UNDEFINED, b, np.where(b == UNDEFINED, a, self._max(a, b)))

    def _fmin(self, a: Array, b: Array) -> Array:
        return np.where(a == UNDEFINED, b, np.where(b == UNDEFINED, a, self._min(a, b)))

    def _abs(self, a: Array) -> Array:
        return np.where(self.numbers.keys(a) < 0, self._neg(a), a)

    def _sign(self, a: Array) -> Array:
        keys = np.where(a == UNDEFINED, 0, self.numbers.keys(a))
        return self.field.reduce(np.sign(keys))

    def _signbit(self, a: Array) -> Array:
        return np.asarray(self.numbers.keys(a) < 0)

    def _copysign(self, a: Array, b: Array) -> Array:
        size = self._abs(a)
        return np.where(self._signbit(b), self._neg(size), size)

    def _isnan(self, a: Array) -> Array:
        return np.asarray(a == UNDEFINED)

    def _isinf(self, a: Array) -> Array:
        return np.asarray((a < 0) & (a != UNDEFINED))

    def _angle(self, a: Array) -> Array:
        half_turn = self.numbers.encode(np.pi)
        return np.where(a == UNDEFINED, a, np.where(self.numbers.keys(a) < 0, half_turn, 0))

    # Rounding and remainders, on small integers

    def _small(self, *args: Array) -> Array:
        return np.asarray(
            np.logical_and.reduce([np.abs(self.numbers.keys(a)) < SMALL for a in np.broadcast_arrays(*args)])
        )

    def _rounding(self, name: str, a: Array) -> Array:
        return np.where(self._small(a) | (a < 0), a, self._random(name, a))

    def _floor(self, a: Array) -> Array:
        return self._rounding("floor", a)

    def _ceil(self, a: Array) -> Array:
        return self._rounding("ceil", a)

    def _round(self, a: Array) -> Array:
        return self._rounding("round", a)

    def _trunc(self, a: Array) -> Array:
        return self._rounding("trunc", a)

    def _quotient(self, name: str, a: Array, b: Array) -> Array:
        x, y = np.broadcast_arrays(self.numbers.keys(a), self.numbers.keys(b))
        with np.errstate(all="ignore"):
            exact = self.field.reduce(implementation(name, DType.I64)(x, y).astype(np.int64))
        return np.where(self._small(a, b) & (y != 0), exact, self._random(name, a, b))

    def _floordiv(self, a: Array, b: Array) -> Array:
        return self._quotient("floordiv", a, b)

    def _truncdiv(self, a: Array, b: Array) -> Array:
        return self._quotient("truncdiv", a, b)

    def _mod(self, a: Array, b: Array) -> Array:
        return self._sub(a, self._mul(b, self._floordiv(a, b)))

    def _fmod(self, a: Array, b: Array) -> Array:
        return self._sub(a, self._mul(b, self._truncdiv(a, b)))

    # Exponentials, powers, and what is defined by them

    def _exp(self, a: Array) -> Array:
        return self._exponential("exp", a)

    def _exp2(self, a: Array) -> Array:
        return self._exponential("exp2", a)

    def _expm1(self, a: Array) -> Array:
        one = np.ones((1,) * a.ndim, np.int64)
        return self._sub(self._exp(a), one)

    def _exponential(self, name: str, a: Array) -> Array:
        """``base**a`` with a base of the companion's order, so that the exponent counts modulo the companion."""
        prime, companion = self.field.prime, self.field.companion
        step = 1 + seed_of(self.seed, name) % (companion - 1)
        base = pow(self.field.generator, (prime - 1) // companion * step, prime)
        again = [seed_of(self.seed, name, k) if k else 1 for k in range(companion)]
        table = np.array([self.field.join(pow(base, k, prime), again[k]) for k in range(companion)], dtype=np.int64)
        real = implementation(name, DType.F64)
        return self.numbers.extend((a,), lambda x: np.asarray(table[x % companion]), real)

    def _rsqrt(self, a: Array) -> Array:
        return self._reciprocal(self._random("sqrt", a))

    def _hypot(self, a: Array, b: Array) -> Array:
        return self._random("sqrt", self._add(self._square(a), self._square(b)))

    def _pow(self, a: Array, b: Array) -> Array:
        """Powers by small integers; square roots and their reciprocals; anything else at random."""
        exponents = self.numbers.keys(b)
        half = self.numbers.encode(0.5)
        roots = {half: lambda x: self._random("sqrt", x), self.numbers.encode(-0.5): self._rsqrt}
        value = np.array(np.broadcast_to(self._random("pow", a, b), np.broadcast_shapes(a.shape, b.shape)))
        for residue, exponent in dict(
            zip(np.unique(b).tolist(), self.numbers.keys(np.unique(b)).tolist(), strict=True)
        ).items():
            here = np.broadcast_to(exponents == exponent, value.shape)
            if residue in roots:
                value = np.where(here, roots[residue](a), value)
            elif abs(exponent) < SMALL:
                value = np.where(here, self._integer_power(a, exponent), value)
        return value

    def _integer_power(self, a: Array, exponent: int) -> Array:
        power = self.numbers.extend(
            (a,), lambda x: self.field.power(x, abs(exponent)), lambda x: np.power(x, abs(exponent))
        )
        return power if exponent >= 0 else self._reciprocal(power)

    # Random functions

    def _random(self, name: str, *args: Array) -> Array:
        """Random residues, except that markers and an argument of 0 are mapped as the real function maps them."""
        seed, real = seed_of(self.seed, name), implementation(name, DType.F64)

        def draw(*residues: Array) -> Array:
            plain = [self.numbers.residues(r) for r in residues]
            return np.asarray((hashed(seed, plain) % np.uint64(self.field.modulus)).astype(np.int64))

        with np.errstate(all="ignore"):
            at_zero = float(real(*(np.float64(0.0) for _ in args)))
        shared = not np.isfinite(at_zero) or at_zero in _SIMPLE
        zero = np.asarray(reduce(np.logical_and, [self._zero(a) for a in args])) if shared else None
        return self.numbers.extend(args, draw, real, zero)

    def integers(self, a: Array) -> Array:
        """Truncation to ``int64``: exact on small integers, random elsewhere."""
        plain = self.numbers.residues(self.numbers.ordinary(a))
        drawn = hashed(seed_of(self.seed, "truncate"), [plain]).astype(np.int64)
        return np.where(self._small(a) & (a >= 0), self.numbers.keys(a), drawn)
