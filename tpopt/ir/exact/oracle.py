"""Seeded random functions: equal arguments give equal values, in every process; anything else gives unrelated ones."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from tpopt.ir.program import Array

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio


def seed_of(*parts: object) -> int:
    """64 bits that depend on every part's text."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "little")


def generator(*parts: object) -> np.random.Generator:
    """A random generator for a purpose."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))


def hashed(seed: int, args: Sequence[Array]) -> Array:
    """64 random bits for each tuple of ``int64`` arguments, as ``uint64``.

    Source of the mixing: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", variant 13 of Stafford.
    """
    with np.errstate(over="ignore"):
        state = np.asarray(np.uint64(seed))
        for arg in args:
            state = _mixed(state ^ _mixed(arg.astype(np.uint64) + np.uint64(_GOLDEN)))
        return _mixed(state)


def _mixed(z: Array) -> Array:
    z = np.asarray(z)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
