"""Uniform quantizers: values as codes on an evenly spaced grid, per tensor, per channel or per group.

All is pure arithmetic on arrays (numpy's, or whatever converts to them without a copy, as tensors on the CPU do). Codes
are computed in float64 and rounded half to even; what the codes stand for has the type of the values, so that the error
of a narrower grid is seen and not that of the arithmetic.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018 (affine grids); Yao et al., "HAWQ-V3", ICML 2021 (symmetric weights, ``2^(bits - 1) - 1`` levels a side);
Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (bias correction).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tpopt.errors import UsageError
from tpopt.passes.precision.ranges import Channels, Floats, Range, min_max, mse_optimal

Codes: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.floating]
Maker: TypeAlias = "Callable[[Range, int], Grid]"
"""Of a range and a number of bits: :func:`symmetric` or :func:`asymmetric`."""

FEWEST: Final = 2
MOST: Final = 16
"""Bits of a code."""


@dataclass(frozen=True)
class Grid:
    """The levels ``scale * (code - zero)`` for ``lowest <= code <= highest``.

    Attributes:
        scale: positive, float64, in the unit of the values; broadcasts against them.
        zero: the code of 0.0, int64, of the scale's shape; 0.0 is always a level (padding stays exact).
        lowest: the least code.
        highest: the greatest code.
    """

    scale: Floats
    zero: Codes
    lowest: int
    highest: int

    def codes(self, values: npt.ArrayLike) -> Codes:
        """The nearest level's code, int64; values beyond the grid take the outermost one.

        Raises :class:`~tpopt.errors.UsageError` for values that are not numbers.
        """
        steps = np.rint(np.asarray(values, dtype=np.float64) / self.scale) + self.zero
        if np.isnan(steps).any():
            raise UsageError("values: nan has no code")
        return np.clip(steps, self.lowest, self.highest).astype(np.int64)

    def values(self, codes: npt.ArrayLike) -> Floats:
        """What codes stand for, float64."""
        return self.scale * (np.asarray(codes, dtype=np.int64) - self.zero)

    def quantized(self, values: npt.ArrayLike) -> Values:
        """The nearest levels themselves, in the type of the values."""
        array = np.asarray(values)
        found: Values = self.values(self.codes(array)).astype(array.dtype)
        return found


def symmetric(of: Range, bits: int) -> Grid:
    """``2^(bits - 1) - 1`` levels to each side of zero, whose code is 0: what integer products need of weights."""
    levels = 2 ** (_bits(bits) - 1) - 1
    return Grid(_positive(of.largest / levels), np.zeros(of.low.shape, dtype=np.int64), -levels, levels)


def asymmetric(of: Range, bits: int) -> Grid:
    """All ``2^bits`` levels, codes from 0 on, over the range and zero; unsigned values get every one of them.

    The zero point is rounded to a code, which shifts the range by at most half a step.
    """
    last = 2 ** _bits(bits) - 1
    low, high = np.minimum(of.low, 0.0), np.maximum(of.high, 0.0)
    scale = _positive((high - low) / last)
    return Grid(scale, np.clip(np.rint(-low / scale), 0, last).astype(np.int64), 0, last)


def least_error(values: npt.ArrayLike, bits: int, grid: Maker = symmetric, channels: Channels = None) -> Grid:
    """The grid of that kind whose range loses least of these values (squared error, channel by channel)."""
    found = mse_optimal(values, lambda v, r: _float64(grid(r, bits), v), channels, ends=grid is not symmetric)
    return grid(found, bits)


def groupwise(values: npt.ArrayLike, bits: int = 4, group: int = 32, grid: Maker = asymmetric) -> Values:
    """The nearest levels where each ``group`` neighbours along the last axis have a grid of their own.

    A last group that is not full is filled with zeros, a level of any grid. Same shape and type as ``values``.
    """
    array = np.asarray(values)
    parts = in_groups(array, group)
    channels = tuple(range(parts.ndim - 1))
    return out_of_groups(grid(min_max(parts, channels), bits).quantized(parts), array.shape)


def in_groups(values: Values, group: int) -> Values:
    """``[..., n]`` as ``[..., ceil(n / group), group]``, zeros at the end. Raises ``UsageError`` below size 1."""
    if group < 1 or not values.ndim:
        raise UsageError(f"group={group}: expected at least 1, and values with at least one axis")
    missing = -values.shape[-1] % group
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], -1, group)


def out_of_groups(parts: Values, shape: tuple[int, ...]) -> Values:
    """Back from :func:`in_groups` to the values' own shape."""
    return parts.reshape(*shape[:-1], -1)[..., : shape[-1]]


def bias_correction(weight: npt.ArrayLike, quantized: npt.ArrayLike, mean: npt.ArrayLike, groups: int = 1) -> Floats:
    """What to add to a layer's bias so that quantized weights leave the mean of its outputs where it was.

    Args:
        weight: ``[out, in / groups, *kernel]``, as it was.
        quantized: the same, quantized.
        mean: mean of each input channel, ``[in]``, in the unit of the inputs. Near a convolution's padding it is lower;
            the correction is that of the interior.
        groups: of a convolution.

    Returns: ``[out]``, float64: ``sum over inputs of (weight - quantized) * mean``.
    """
    lost = np.asarray(weight, dtype=np.float64) - np.asarray(quantized, dtype=np.float64)
    by_input = lost.reshape(*lost.shape[:2], -1).sum(axis=-1)
    means = np.asarray(mean, dtype=np.float64)
    if means.shape != (by_input.shape[1] * groups,) or len(by_input) % groups:
        raise UsageError(f"mean: expected [{by_input.shape[1] * groups}], one for each input; got {means.shape}")
    parts = by_input.reshape(groups, -1, by_input.shape[1])
    return np.asarray(np.einsum("goi,gi->go", parts, means.reshape(groups, -1)).reshape(-1))


def _float64(grid: Grid, values: Floats) -> Floats:
    return grid.values(grid.codes(values))


def _positive(scale: Floats) -> Floats:
    """A channel of zeros gets a scale of 1; a range too narrow for a scale gets the least normal one."""
    return np.where(scale > 0, np.maximum(scale, np.finfo(np.float64).tiny), 1.0)


def _bits(bits: int) -> int:
    if not FEWEST <= bits <= MOST:
        raise UsageError(f"bits={bits}: expected {FEWEST} to {MOST}")
    return bits
