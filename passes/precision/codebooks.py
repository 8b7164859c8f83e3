"""Quantizers for normally distributed values, and the rotation that makes any values nearly so.

A Hadamard rotation of a group mixes all of its values, so that none stands out and each is close to
``N(0, |w|^2 / n)``; then one grid, the best for the normal distribution, serves every group. Rotated weights times
rotated inputs are weights times inputs, for the rotation is orthogonal.

Sources: Lloyd, "Least squares quantization in PCM", 1957/1982; Max, "Quantizing for minimum distortion", 1960 (optimal
levels); Panter and Dite, 1951 (levels of high resolution, the start); Malinovskii et al., "Pushing the Limits of Large
Language Model Quantization via the Linearity Theorem" (HIGGS), NAACL 2025 (rotation of groups and such a grid).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import root
from scipy.special import ndtr, ndtri

from tpopt.errors import UsageError
from tpopt.passes.precision.quantizers import Values, in_groups, out_of_groups
from tpopt.passes.precision.ranges import Floats

WIDEST: Final = 8
"""Bits of the largest codebook: its levels are then within 1 % of those of high resolution anyway."""
GROUP: Final = 1024
"""Values that share a rotation and a scale: 16 bits of scale are then 1/64 bit for each."""


@dataclass(frozen=True)
class Codebook:
    """The levels with the least mean squared error for ``N(0, 1)``.

    Attributes:
        levels: ``[2^bits]``, float64, rising, symmetric about 0.
        error: their mean squared error, exactly: one less the variance of the levels.
    """

    levels: Floats
    error: float

    def codes(self, values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """The nearest level's number, for values of any shape."""
        bounds = (self.levels[1:] + self.levels[:-1]) / 2
        return np.searchsorted(bounds, np.asarray(values, dtype=np.float64)).astype(np.uint8)


def lloyd_max(bits: int) -> Codebook:
    """The Lloyd-Max quantizer of ``N(0, 1)`` with ``2^bits`` levels, for 1 to 8 bits.

    Each level is the mean of its cell and each bound the middle of two levels. The distribution is log-concave, so that
    there is one such set of levels; it is solved for, from the levels of high resolution.
    """
    if not 1 <= bits <= WIDEST:
        raise UsageError(f"bits={bits}: expected 1 to {WIDEST}")
    half = 2 ** (bits - 1)
    start = sqrt(3) * ndtri(0.5 + (np.arange(half) + 0.5) / (2 * half))  # density to the power of a third
    found = root(lambda levels: levels - _cells(levels)[0], start, tol=1e-13)
    upper = np.asarray(found.x)
    means, shares = _cells(upper)
    assert np.abs(upper - means).max() < 1e-9, found.message
    return Codebook(np.concatenate([-upper[::-1], upper]), 1.0 - 2.0 * float((shares * upper**2).sum()))


def _cells(levels: Floats) -> tuple[Floats, Floats]:
    """Means and probabilities of the cells of positive levels, the first of which begins at 0."""
    bounds = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    density = np.exp(-(bounds**2) / 2) / sqrt(2 * np.pi)
    shares = ndtr(-bounds[:-1]) - ndtr(-bounds[1:])  # from above: far out nothing cancels
    return (density[:-1] - density[1:]) / np.maximum(shares, 1e-300), shares


def hadamard(values: npt.ArrayLike) -> Floats:
    """The orthonormal Walsh-Hadamard transform along the last axis, float64; its own inverse.

    Raises :class:`~tpopt.errors.UsageError` unless the axis is a power of two long. ``n log2 n`` additions.
    """
    array = np.array(values, dtype=np.float64)
    size = array.shape[-1]
    _power_of_two("values", size)
    flat = array.reshape(-1, size)
    step = 1
    while step < size:
        pairs = flat.reshape(len(flat), -1, 2, step)
        flat = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(-1, size)
        step *= 2
    return (flat / sqrt(size)).reshape(array.shape)


@dataclass(frozen=True)
class Rotation:
    """A random sign for each place of a group, then a Hadamard transform; orthogonal.

    Attributes:
        group: values that are rotated together, a power of two.
        seed: of the signs.
    """

    group: int = GROUP
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises :class:`~tpopt.errors.UsageError` where the group is no power of two."""
        _power_of_two("group", self.group)

    def __call__(self, groups: npt.ArrayLike) -> Floats:
        """Rotates ``[..., group]``."""
        return hadamard(np.asarray(groups, dtype=np.float64) * self._signs)

    def back(self, groups: npt.ArrayLike) -> Floats:
        """The inverse."""
        return hadamard(groups) * self._signs

    @property
    def _signs(self) -> Floats:
        return np.random.default_rng(self.seed).choice(np.array([-1.0, 1.0]), self.group)


@dataclass(frozen=True)
class Rotated:
    """Values as codes of one codebook, after a rotation of groups.

    Attributes:
        codes: ``[..., groups, group]``, uint8.
        scales: ``[..., groups, 1]``, float64: the root mean square of each group.
        codebook: the levels.
        rotation: of each group.
        shape: of the values.
    """

    codes: npt.NDArray[np.uint8]
    scales: Floats
    codebook: Codebook
    rotation: Rotation
    shape: tuple[int, ...]

    def values(self) -> Floats:
        """What the codes stand for, in the values' shape, float64."""
        groups = self.rotation.back(self.codebook.levels[self.codes] * self.scales)
        return out_of_groups(groups, self.shape).astype(np.float64)

    def bits(self, scale_bits: int = 16) -> int:
        """Bits that codes and scales take, what pads the last group included."""
        width = (len(self.codebook.levels) - 1).bit_length()
        return self.codes.size * width + self.scales.size * scale_bits


def rotated(values: Values, bits: int = 4, group: int = GROUP, seed: int = 0) -> Rotated:
    """Quantizes along the last axis, any length: groups are rotated, scaled, and take the nearest level (HIGGS).

    Args:
        values: ``[..., n]`` floats. A last group that is not full is padded with zeros; where ``n`` is less than a
            group, the group is the next power of two.
        bits: of a code, 1 to 8.
        group: values that share a rotation and a scale, a power of two.
        seed: of the rotation's signs.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.ndim or not array.shape[-1]:
        raise UsageError(f"values: expected a last axis of at least 1; got shape {array.shape}")
    rotation = Rotation(min(group, 1 << (array.shape[-1] - 1).bit_length()), seed)
    turned = rotation(in_groups(array, rotation.group))
    scales = np.sqrt(np.square(turned).mean(axis=-1, keepdims=True))
    codebook = lloyd_max(bits)
    codes = codebook.codes(turned / np.where(scales > 0, scales, 1.0))
    return Rotated(codes, scales, codebook, rotation, array.shape)


def _power_of_two(name: str, size: int) -> None:
    if size < 1 or size & (size - 1):
        raise UsageError(f"{name}: expected a power of two, got {size}")
