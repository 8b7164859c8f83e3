"""One layer in one structure, and what all structures share: names, iterators, the layer's own ending, the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, prod
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from tpopt.ir import Compute, Iter, Read, Reduce, Scalar, Size, Tensor, postorder
from tpopt.ir.program import Array
from tpopt.ir.walk import rebuild
from tpopt.passes.factorize.core_shapes import Spectra
from tpopt.passes.factorize.layers import Layer
from tpopt.passes.factorize.projections import Spectrum

Floats = npt.NDArray[np.float64]

LANES: Final = 16
"""Ranks are multiples of a vector's width where they are that large."""


@dataclass(frozen=True)
class Factorized:
    """One layer in one structure.

    Attributes:
        layer: what it replaces.
        structure: ``low_rank``, ``tucker2``, ``spatial`` or ``block_train``, with its sizes, such as ``low_rank64``.
        stages: what computes the layer's result, the result last.
        weights: the factors' values, that of the last sum first.
        whole: the weight that they stand for, in the layout of the layer's.
        parameters: numbers of all factors.
        macs: multiply-adds of all stages.
        error: relative error of the weight, in the Frobenius norm.
    """

    layer: Layer
    structure: str
    stages: tuple[Compute, ...]
    weights: Mapping[Tensor, Array]
    whole: Array
    parameters: int
    macs: int
    error: float

    @property
    def last(self) -> Tensor:
        """The factor whose use stands for the whole error."""
        return next(iter(self.weights))


@dataclass
class Task:
    """A layer, the part of its multiply-adds that a structure may have, and how far off the weight may be.

    ``spectra`` are those that were needed so far, by the structure.
    """

    layer: Layer
    ratio: float
    most_error: float
    spectra: dict[str, Spectrum | Spectra]

    def spectrum(self, structure: str, make: Callable[[], Spectrum]) -> Spectrum:
        """The spectrum that a structure is found by, made once for all ratios."""
        if structure not in self.spectra:
            self.spectra[structure] = make()
        found = self.spectra[structure]
        assert isinstance(found, Spectrum)
        return found

    def core(self, tensor: Floats) -> Spectra:
        """The tensor's full core, made once for all ratios."""
        if "core" not in self.spectra:
            self.spectra["core"] = Spectra.of(tensor)
        found = self.spectra["core"]
        assert isinstance(found, Spectra)
        return found


def own_iterator(name: str, extent: Size) -> Iter:
    """An iterator that no traced program has."""
    return Iter(f"z_{name}", extent)


def whole_rank(rank: float, most: int) -> int:
    """A rank of at most this size, in whole vectors where it is large enough."""
    whole = min(floor(rank), most)
    return whole // LANES * LANES if whole > LANES else whole


def sizes(tensor: Tensor) -> tuple[int, ...]:
    """The static extents of a tensor."""
    return tuple(e for e in tensor.shape if isinstance(e, int))


def extent(iters: Sequence[Iter]) -> int:
    """The product of static extents."""
    return prod(i.extent for i in iters if isinstance(i.extent, int))


class Names:
    """Tensors of one layer in one structure, named after what they replace."""

    def __init__(self, layer: Layer, tag: str) -> None:
        self._layer, self._tag = layer, tag

    def value(self, role: str, loops: Sequence[Iter]) -> Tensor:
        dtype = self._layer.stage.outs[0].dtype
        return Tensor(f"{self._layer.name}.{self._tag}.{role}", tuple(i.extent for i in loops), dtype)

    def weight(self, role: str, axes: Sequence[Iter]) -> tuple[Tensor, Read]:
        name = f"{self._layer.weight.name}.{self._tag}.{role}"
        tensor = Tensor(name, tuple(i.extent for i in axes), self._layer.weight.dtype)
        return tensor, tensor.at(axes)


def ending(layer: Layer, term: Scalar) -> Compute:
    """The layer's own stage with another term in the place of its sum: bias and whatever else is around stay."""
    body = rebuild(layer.stage.bodies[0], lambda t: term if t is layer.total else t)
    return Compute(layer.stage.outs, layer.stage.loops, (body,))


def done(
    layer: Layer, tag: str, stages: tuple[Compute, ...], weights: Mapping[Tensor, Floats], whole: Floats
) -> Factorized:
    """The finished structure with its figures; ``whole`` is over the layer's rows and columns, a kernel's taps last."""
    values = {t: np.ascontiguousarray(v, dtype=np.float32) for t, v in weights.items()}
    back = _like(layer, whole.reshape([int(str(i.extent)) for i in _order(layer)]))
    off = float(np.linalg.norm(back - np.asarray(layer.value, dtype=np.float64)))
    size = float(np.linalg.norm(np.asarray(layer.value, dtype=np.float64)))
    parameters = sum(v.size for v in values.values())
    return Factorized(
        layer, tag, stages, MappingProxyType(values), back.astype(np.float32), parameters, sum(map(_macs, stages)),
        off / size if size else 0.0,
    )  # fmt: skip


def _order(layer: Layer) -> tuple[Iter, ...]:
    return (*layer.rows, *layer.channels, *layer.kernel) if layer.kernel else (*layer.rows, *layer.columns)


def _like(layer: Layer, arranged: Floats) -> Floats:
    """An array over rows and columns in the layout of the weight."""
    order = _order(layer)
    own = [a for w in layer.read.indices for a in w.atoms if isinstance(a, Iter)]
    moved = arranged.transpose([order.index(i) for i in own])
    return moved.reshape(layer.value.shape)


def _macs(stage: Compute) -> int:
    reduced = [t for t in postorder(*stage.bodies) if isinstance(t, Reduce)]
    loops = prod(i.extent for i in stage.loops if isinstance(i.extent, int))
    return loops * max((extent(t.iters) for t in reduced), default=0)
