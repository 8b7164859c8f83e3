"""The field against Python's own integers."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from tpopt.errors import UnsupportedInput, UsageError
from tpopt.ir.exact import PRIME, Field
from tpopt.ir.exact.field import TRANSFORMS, is_prime, prime_factors
from tpopt.ir.exact.numbers import INFINITE, NEGATIVE_INFINITE, UNDEFINED, Numbers
from tpopt.ir.exact.oracle import hashed

FIELD = Field()
M = FIELD.modulus
EDGES = [0, 1, 2, M // 2, M // 2 + 1, M - 2, M - 1, 2**53, 2**53 + 1, 2**55 - 1, PRIME, M - PRIME]
DRAWN = [random.Random(0).randrange(M) for _ in range(300)]
VALUES = np.array(EDGES + DRAWN, np.int64)


def test_the_prime_has_the_roots_and_the_companion_that_it_should():
    assert PRIME % TRANSFORMS == 1
    assert prime_factors(PRIME - 1) == (2, 3, 5, 7, 11, 13, 83)
    assert (is_prime(PRIME), FIELD.companion, M < 2**56) == (True, 83, True)


def test_no_smaller_multiple_of_the_transforms_has_a_companion_as_large():
    primes = [(k, k * TRANSFORMS + 1) for k in range(1, 84) if is_prime(k * TRANSFORMS + 1)]
    assert max(Field(p).companion for _, p in primes) == 83
    assert [k for k, p in primes if Field(p).companion == 83] == [83]


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_operations_are_those_of_python(name: str):
    operation = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}[name]
    found = getattr(FIELD, name)(VALUES[:, None], VALUES[None, :])
    pairs = itertools.product(VALUES.tolist(), repeat=2)
    assert found.ravel().tolist() == [operation(a, b) % M for a, b in pairs]


def test_products_of_the_largest_residues_are_exact():
    top = np.arange(M - 1000, M, dtype=np.int64)
    assert FIELD.mul(top, top[::-1]).tolist() == [
        a * b % M for a, b in zip(top.tolist(), top[::-1].tolist(), strict=True)
    ]


def test_inverses_and_powers():
    units = np.array([v for v in VALUES.tolist() if v % PRIME and v % FIELD.companion], np.int64)
    assert (FIELD.mul(units, FIELD.inverse(units)) == 1).all()
    assert FIELD.inverse(np.array([0, PRIME])).tolist()[0] == 0
    assert FIELD.power(VALUES, 12345).tolist() == [pow(v, 12345, M) for v in VALUES.tolist()]
    assert FIELD.power(VALUES, 0).tolist() == [1] * len(VALUES)


@pytest.mark.parametrize("depth", [1, 7, 2**15, 2**17])
def test_matrix_products_are_exact_at_every_depth(depth: int):
    rng = np.random.default_rng(depth)
    a, b = rng.integers(0, M >> 38, (2, depth)) << 38, rng.integers(0, M >> 38, (depth, 2)) << 38
    a, b = a - rng.integers(1, 9, a.shape) % M, b + (2**38 - 1) - rng.integers(0, 8, b.shape)  # digits near the largest
    a, b = a % M, b % M
    expected = [[sum(x * y for x, y in zip(r, c, strict=True)) % M for c in b.T.tolist()] for r in a.tolist()]
    assert FIELD.matmul(a, b).tolist() == expected


def test_sums_do_not_overflow():
    values = np.full((3, 5000), M - 1)
    assert FIELD.total(values, (0, 1)).tolist() == [[-15000 % M]]


def test_roots_of_unity_are_consistent_between_orders():
    root = FIELD.root(2**20 * 13)
    assert [pow(root, 13, M), pow(root, 2**20, M)] == [FIELD.root(2**20), FIELD.root(13)]
    assert all(pow(FIELD.root(83), k, PRIME) != 1 for k in range(1, 83))
    assert FIELD.root(4) ** 2 % PRIME == PRIME - 1
    with pytest.raises(UnsupportedInput, match="no root of unity of order 17"):
        FIELD.root(17)


def test_a_prime_without_the_transforms_is_refused():
    with pytest.raises(UsageError, match="prime=101: expected a prime that is 1 modulo"):
        Field(101)
    with pytest.raises(UsageError, match="expected a prime"):
        Field(TRANSFORMS + 1)


@pytest.mark.parametrize("value", [0.5, -3.75, 0.1, 1e-30, 2.0**70, -0.0])
def test_literals_are_the_fractions_they_are(value: float):
    exact = Fraction(value)
    assert Numbers(FIELD).encode(value) * exact.denominator % M == exact.numerator % M


def test_infinities_and_nan_are_markers():
    assert [Numbers(FIELD).encode(v) for v in (np.inf, -np.inf, np.nan)] == [INFINITE, NEGATIVE_INFINITE, UNDEFINED]


def test_symmetric_representatives_are_the_small_integers():
    small = np.arange(-5, 6)
    assert FIELD.symmetric(FIELD.reduce(small)).tolist() == small.tolist()


def test_random_functions_are_the_same_in_every_process():
    assert hashed(7, [np.array([0, 1]), np.array([2, 2])]).tolist() == [8443127675342369053, 13351030080881556452]
