"""Equalisation: scales move from one layer to the next, which keeps the function and suits a grid better.

``relu(s x) = s relu(x)`` for ``s > 0``: what one layer's outputs are divided by, the next one's inputs are multiplied
by. The same holds across whatever is positively homogeneous or acts on channels alone (max and average pooling,
flattening, dropout in eval mode), and without any condition between a normalization's affine part and a linear layer.
Scales that are powers of two keep every bit.

Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (scales
across a ReLU); Xiao et al., "SmoothQuant", ICML 2023, section 4 (from activations to weights).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tpopt.errors import UsageError
from tpopt.passes.precision.quantizers import Values
from tpopt.passes.precision.ranges import Floats


def divide_outputs(weight: npt.ArrayLike, scales: npt.ArrayLike) -> Values:
    """A weight or bias ``[out, ...]`` whose output channels are divided by ``[out]`` positive scales; same type.

    A normalization's ``[channels]`` weight and bias are divided in the same way.
    """
    array, factors = np.asarray(weight), _positive(scales)
    if not array.ndim or len(array) != len(factors):
        raise UsageError(f"scales: expected one for each output of {array.shape}; got {len(factors)}")
    divided: Values = (array / factors.reshape(-1, *[1] * (array.ndim - 1))).astype(array.dtype)
    return divided


def multiply_inputs(weight: npt.ArrayLike, scales: npt.ArrayLike, groups: int = 1) -> Values:
    """A weight ``[out, in / groups, *kernel]`` whose input channels are multiplied by positive scales; same type.

    Args:
        weight: of a linear layer or a convolution.
        scales: ``[in]``; or one for each channel of what was flattened to ``[channels * places]`` before.
        groups: of a convolution.
    """
    array, factors = np.asarray(weight), _positive(scales)
    inputs = array.shape[1] * groups if array.ndim > 1 else 0
    if not inputs or inputs % len(factors) or len(array) % groups:
        raise UsageError(f"scales: expected one for each input of {array.shape} in {groups} groups; got {len(factors)}")
    each = np.repeat(factors, inputs // len(factors)).reshape(groups, 1, -1, *[1] * (array.ndim - 2))
    multiplied: Values = (array.reshape(groups, -1, *array.shape[1:]) * each).reshape(array.shape).astype(array.dtype)
    return multiplied


def equalising_scales(first: npt.ArrayLike, second: npt.ArrayLike, groups: int = 1) -> Floats:
    """Scales ``[channels]`` after which both weights have the same range in every channel between them.

    Args:
        first: ``[channels, ...]``, to be divided by :func:`divide_outputs`, and its bias with it.
        second: ``[out, channels / groups, *kernel]``, or with several places of each channel; to be multiplied.
        groups: of the second one.

    ``sqrt(range of first / range of second)``; 1 where a channel is zero on either side.
    """
    before = np.abs(np.asarray(first, dtype=np.float64))
    ranges = before.reshape(len(before), -1).max(axis=1)
    return _scales(ranges, _input_ranges(second, len(ranges), groups), 0.5)


def smoothing_scales(
    activations: npt.ArrayLike, weight: npt.ArrayLike, strength: float = 0.5, groups: int = 1
) -> Floats:
    """Scales ``[channels]`` to divide activations by, and to multiply the next weight's inputs by (SmoothQuant).

    Args:
        activations: largest magnitude of each channel on calibration data, ``[channels]``.
        weight: ``[out, channels / groups, *kernel]``; of several readers, their weights joined along the outputs.
        strength: 0 leaves the whole range to the activations, 1 moves all of it into the weights.
        groups: of the weight.

    ``activations^strength / weights^(1 - strength)``; 1 where a channel is zero on either side.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"strength={strength}: expected from 0 to 1")
    ranges = np.abs(np.asarray(activations, dtype=np.float64))
    others = _input_ranges(weight, len(ranges), groups)
    return _scales(ranges, others, strength)


def powers_of_two(scales: npt.ArrayLike) -> Floats:
    """The nearest powers of two, by ratio: dividing and multiplying by them rounds nothing."""
    return np.exp2(np.rint(np.log2(_positive(scales))))


def _input_ranges(weight: npt.ArrayLike, channels: int, groups: int) -> Floats:
    """The largest magnitude that each input channel meets: ``[channels]``."""
    array = np.abs(np.asarray(weight, dtype=np.float64))
    inputs = array.shape[1] * groups if array.ndim > 1 else 0
    if not inputs or inputs % channels or len(array) % groups:
        raise UsageError(f"weight: {array.shape} in {groups} groups does not read {channels} channels")
    by_input = array.reshape(groups, len(array) // groups, array.shape[1], -1).max(axis=(1, 3)).reshape(-1)
    return np.asarray(by_input.reshape(channels, -1).max(axis=1))


def _scales(first: Floats, second: Floats, strength: float) -> Floats:
    known = (first > 0) & (second > 0)
    return np.asarray(np.where(known, first, 1.0) ** strength / np.where(known, second, 1.0) ** (1 - strength))


def _positive(scales: npt.ArrayLike) -> Floats:
    found = np.asarray(scales, dtype=np.float64)
    if found.ndim != 1 or not found.size or not (np.isfinite(found) & (found > 0)).all():
        raise UsageError("scales: expected a row of finite numbers above 0")
    return found
