"""Values stored in eight bits, by a scale and a zero point, and weights by a scale for each of their channels.

The integer form of ``x`` is ``x.u8``: ``x = (x.u8 - zero) * scale``, in the full 8 bits, the scale fixed when the model
is compiled from the values that it takes on calibration data. What lies outside their range saturates. Weights are
symmetric, ``w.i8 * scale[channel]``. All of it is algebra: a product of integer forms is a sum of products of what they
stand for, which a kernel may compute in integers.
Source of the scheme: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, with weights by channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tpopt.ir import DENSE, Compute, DType, Program, Read, Scalar, Tensor, index
from tpopt.ir.build import apply, iters
from tpopt.ir.program import Array
from tpopt.ir.terms import cast
from tpopt.passes.precision.quantizers import Grid, asymmetric, least_error, symmetric
from tpopt.passes.precision.ranges import min_max
from tpopt.passes.precision.storage import Storage

CODES: Final = 255
"""Largest code of a value."""
LOWER_HALF: Final = np.uint32(0xFFFF)
"""The bits of a float32 that bf16 does not have."""
MOST_SAMPLES: Final = 1 << 12
"""Values of each sample of a tensor that its range is sought on."""
SMALLEST: Final = float(np.finfo(np.float32).tiny) * CODES
"""Largest magnitude above which a step is a normal number."""
SCALE, INVERSE, ZERO = range(3)
"""What the three numbers beside a stored value are."""


def grid_of(samples: Sequence[Array]) -> Grid | None:
    """The unsigned 8-bit grid with the least squared error over samples; zero has a code of its own.

    ``None`` where the samples are empty, all zero or not finite.
    """
    values = np.concatenate([_some(s) for s in samples]) if samples else np.empty(0)
    if not values.size or not np.isfinite(values).all() or not np.abs(values).max() > SMALLEST:
        return None
    return least_error(values, 8, asymmetric)


def _some(values: Array) -> Array:
    """At most :data:`MOST_SAMPLES` of an array's values, evenly chosen, and its extremes."""
    flat = values.reshape(-1).astype(np.float64)
    if flat.size <= MOST_SAMPLES:
        return flat
    return np.concatenate([flat[:: -(-flat.size // MOST_SAMPLES)], [flat.min(), flat.max()]])


class Quantized(Storage):
    """The integer forms of tensors of several forms of one program, and of their weights.

    Args:
        programs: the forms; a name means the same in all of them.
        samples: values that a tensor takes on calibration data; none where nobody knows.

    A tensor keeps its type where it has another one than f32, has rank 0 or 1, has a structure, or takes no values that
    tell a scale.
    """

    def __init__(self, programs: Iterable[Program], samples: Callable[[Tensor], Sequence[Array]]) -> None:
        super().__init__(programs, DType.U8)
        self._samples = samples
        self._affine: dict[str, tuple[Tensor, Grid]] = {}
        self._by_channel: dict[str, _Weight] = {}

    def _new(self, tensor: Tensor) -> Tensor:
        loose = tensor.dtype is self.wide and tensor.rank > 1 and tensor.structure is DENSE
        found = grid_of(self._samples(tensor)) if loose and not self.is_constant(tensor) else None
        if found is None:
            return tensor
        made = Tensor(f"{tensor.name}.u8", tensor.shape, DType.U8, tensor.layout)
        self.origin[made.name] = tensor
        self._affine[made.name] = Tensor(f"{made.name}.affine", (3,), DType.F32), found
        return made

    def weight(self, tensor: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """The integer form of a weight with a scale for each point of some axes, and its scales, f32 by these axes.

        ``None`` where it has none: no dense constant of f32, or one that is not finite, or is stored by other axes.
        """
        if tensor.dtype is not self.wide or tensor.name not in self._constants or tensor.structure is not DENSE:
            return None
        name = f"{tensor.name}.i8"
        if name not in self._by_channel:
            exact = self.constant(tensor)
            if not np.isfinite(exact).all():
                return None
            beside = Tensor(f"{name}.scale", tuple(exact.shape[a] for a in axes), DType.F32)
            made = Tensor(name, tensor.shape, DType.I8)
            grid = grid_by_channel(exact, axes)
            self._by_channel[name] = _Weight(made, beside, axes, grid, grid.codes(exact).astype(np.int8))
            self.origin[name] = tensor
        found = self._by_channel[name]
        return (found.codes, found.scales) if found.axes == axes else None

    def affine(self, narrow: Tensor) -> Tensor:
        """The constant with the scale, its inverse and the zero point of a stored value: f32[3]."""
        return self._affine[narrow.name][0]

    def encoded(self, value: Scalar, target: Tensor) -> Scalar:
        """The code of a value: rounded to the nearest, to even on a tie, and saturated."""
        beside = self.affine(target)
        code = apply("round", value * _number(beside, INVERSE)) + _number(beside, ZERO)
        return cast(apply("min", apply("max", code, 0.0), float(CODES)), target.dtype)

    def decoded(self, read: Read, _source: Tensor) -> Scalar:
        """The value that a code stands for."""
        value = cast(read, self.wide)
        if read.tensor.name in self._by_channel:
            weight = self._by_channel[read.tensor.name]
            return value * Read(weight.scales, tuple(read.indices[a] for a in weight.axes))
        beside = self.affine(read.tensor)
        return (value - _number(beside, ZERO)) * _number(beside, SCALE)

    def conversion(self, source: Tensor, target: Tensor) -> Compute:
        """``target := source``, of which one is the integer form of the other, or of what the other is rounded from."""
        loops = iters("i", source.shape)
        read = source.at(loops)
        if target.name in self._affine:
            return Compute((target,), loops, (self.encoded(cast(read, self.wide), target),))
        return Compute((target,), loops, (cast(self.decoded(read, target), target.dtype),))

    def constants(self) -> Iterator[tuple[Tensor, Array]]:
        """Codes and scales of weights, and the numbers beside stored values."""
        for weight in self._by_channel.values():
            yield weight.codes, weight.numbers
            yield weight.scales, by_axes(weight.grid.scale, weight.axes).astype(np.float32)
        for beside, found in self._affine.values():
            scale, zero = float(found.scale.reshape(())), int(found.zero.reshape(()))
            yield beside, np.array([scale, 1.0 / scale, zero], dtype=np.float32)

    def rounded(self, name: str, value: Array) -> Array:
        """What storing makes of the numbers of the tensor whose integer form has that name."""
        if name in self._affine:
            return self._affine[name][1].quantized(value)
        weight = self._by_channel[name]
        return weight.grid.values(weight.numbers)


@dataclass(frozen=True)
class _Weight:
    """A weight in codes: the tensors of codes and of scales, the axes that scales run over, the grid, and the codes."""

    codes: Tensor
    scales: Tensor
    axes: tuple[int, ...]
    grid: Grid
    numbers: Array


def grid_by_channel(weight: Array, axes: tuple[int, ...]) -> Grid:
    """The symmetric grid of every channel, that is every point of ``axes``: its largest number has the code 127.

    Scales are rounded up to what bf16 holds, as kernels on bf16 values take them.
    """
    grid = symmetric(min_max(weight, axes), 8)
    bits = grid.scale.astype(np.float32).view(np.uint32)
    upper = np.where(bits & LOWER_HALF, (bits & ~LOWER_HALF) + (LOWER_HALF + np.uint32(1)), bits)
    return replace(grid, scale=upper.astype(np.uint32).view(np.float32).astype(np.float64))


def by_axes(scales: Array, axes: tuple[int, ...]) -> Array:
    """Scales that broadcast against a weight, as an array of these axes alone, in their order."""
    others = [a for a in range(scales.ndim) if a not in axes]
    return scales.transpose([*axes, *others]).reshape([scales.shape[a] for a in axes])


def _number(beside: Tensor, place: int) -> Scalar:
    return Read(beside, (index(place),))
