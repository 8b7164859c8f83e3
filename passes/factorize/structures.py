"""Structures for layers: the weight's factors, and the stages that compute with them.

A structure writes ``sum w * data`` as a chain of sums with an intermediate value in between, which is an ordinary
tensor of the program: derivation, library kernels and generated ones see it like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, prod, sqrt
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from tpopt.ir import (
    Bound,
    Compute,
    Index,
    Iter,
    Read,
    Reduce,
    Scalar,
    Select,
    Size,
    Tensor,
    apply,
    const,
    index,
    postorder,
)
from tpopt.ir import total as sum_over
from tpopt.ir.build import guard, select
from tpopt.ir.program import Array
from tpopt.ir.walk import rebuild, substitute_iters
from tpopt.passes.factorize.core_shapes import Spectra
from tpopt.passes.factorize.layers import Layer
from tpopt.passes.factorize.projections import BlockTrain, LowRank, SpatialSvd, Spectrum, Tucker2

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
        weights: the factors' values; the first belongs to the last sum, and its use stands for the whole error.
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


@dataclass
class _Task:
    """A layer, the part of its multiply-adds that a structure may have, and how far off the weight may be.

    ``spectra`` are those that were needed so far, by the structure.
    """

    layer: Layer
    ratio: float
    most_error: float
    spectra: dict[str, Spectrum | Spectra]

    def spectrum(self, structure: str, matrix: Floats) -> Spectrum:
        """Of the matrix that a structure is found by."""
        if structure not in self.spectra:
            self.spectra[structure] = Spectrum.of(matrix)
        found = self.spectra[structure]
        assert isinstance(found, Spectrum)
        return found


Maker = Callable[[_Task], "Factorized | None"]


def factorized(layer: Layer, ratios: Sequence[float] = (2.0, 4.0), most_error: float = 1.0) -> Iterator[Factorized]:
    """Every structure of a layer with at most that part of its multiply-adds, ``1 / ratio``, where there is one.

    ``most_error`` is the relative error that the weight may have: spectra alone tell who has more.
    """
    seen: set[str] = set()
    spectra: dict[str, Spectrum | Spectra] = {}
    for ratio in ratios:
        for make in MAKERS.values():
            found = make(_Task(layer, ratio, most_error, spectra))
            if found is not None and found.structure not in seen and found.error <= most_error:
                seen.add(found.structure)
                yield found


def _iter(name: str, extent: Size) -> Iter:
    """An iterator that no traced program has."""
    return Iter(f"z_{name}", extent)


def _rank(rank: float, most: int) -> int:
    """A rank of at most this size, in whole vectors where it is large enough."""
    whole = min(floor(rank), most)
    return whole // LANES * LANES if whole > LANES else whole


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    return tuple(e for e in tensor.shape if isinstance(e, int))


def _extent(iters: Sequence[Iter]) -> int:
    return prod(i.extent for i in iters if isinstance(i.extent, int))


def low_rank(task: _Task) -> Factorized | None:
    """``t[r, ...] = sum right[r, columns] data``, then ``sum left[rows, r] t``: any layer, windows included."""
    layer, ratio = task.layer, task.ratio
    rows, columns = _extent(layer.rows), _extent(layer.columns)
    rank = _rank(rows * columns / (ratio * (rows + columns)), min(rows, columns))
    if rank < 1:
        return None
    matrix = np.asarray(layer.arranged((*layer.rows, *layer.columns)), dtype=np.float64).reshape(rows, columns)
    spectrum = task.spectrum("low_rank", matrix)
    if spectrum.error(rank) > task.most_error:
        return None
    made, tag = LowRank(*spectrum.split(rank)), f"low_rank{rank}"
    left, right = made.factors
    r = _iter("rank", rank)
    names = _Names(layer, tag)
    inner = names.value("inner", (*layer.loops, r))
    first, one = names.weight("right", (r, *layer.columns))
    second, other = names.weight("left", (*layer.rows, r))
    stages = (
        Compute((inner,), (*layer.loops, r), (sum_over(layer.columns, apply("mul", layer.data, one)),)),
        _ending(layer, sum_over((r,), apply("mul", inner.at((*layer.loops, r)), other))),
    )
    weights = {second: left.reshape(_sizes(second)), first: right.reshape(_sizes(first))}
    return _done(layer, tag, stages, weights, made.whole())


def block_train(task: _Task) -> Factorized | None:
    """Two batches of small products (a block tensor train, Monarch): linear layers whose extents divide evenly."""
    layer, ratio = task.layer, task.ratio
    if len(layer.rows) != 1 or len(layer.columns) != 1:
        return None
    (o,), (i,) = layer.rows, layer.columns
    rows, columns = _extent(layer.rows), _extent(layer.columns)
    n, p = _divisor(rows), _divisor(columns)
    if n < 2 or p < 2:
        return None
    m, q = rows // n, columns // p
    rank = min(floor(rows * columns / (ratio * n * p * (m + q))), m, q)
    if rank < 1:
        return None
    matrix = np.asarray(layer.arranged((o, i)), dtype=np.float64)
    blocks = matrix.reshape(m, n, p, q).transpose(1, 2, 0, 3)
    if task.spectrum("block_train", blocks).error(rank) > task.most_error:
        return None
    made, tag = BlockTrain.of(matrix, (n, p), rank), f"block_train{n}x{p}x{rank}"
    left, right = made.factors
    a, b, c, d, r = _iter("part", p), _iter("group", n), _iter("rank", rank), _iter("within", q), _iter("row", m)
    names = _Names(layer, tag)
    inner = names.value("inner", (a, b, c, *layer.loops))
    outer = names.value("outer", (b, r, *layer.loops))
    first, one = names.weight("right", (a, b, c, d))
    second, other = names.weight("left", (b, r, a, c))
    data = _at(layer.data, {i: index(a) * q + d})
    places = (o - (index(o) // n) * n, index(o) // n)
    stages = (
        Compute((inner,), (a, b, c, *layer.loops), (sum_over((d,), apply("mul", data, one)),)),
        Compute(
            (outer,), (b, r, *layer.loops), (sum_over((a, c), apply("mul", inner.at((a, b, c, *layer.loops)), other)),)
        ),
        _ending(layer, outer.at((*places, *layer.loops))),
    )
    return _done(layer, tag, stages, {second: left, first: right}, made.whole())


def tucker2(task: _Task) -> Factorized | None:
    """Channels reduced before a kernel slides, and restored after; ranks by the energy of the full core."""
    layer, ratio = task.layer, task.ratio
    found = _image(layer)
    if found is None:
        return None
    o, c, read, axis = found
    kernel = layer.kernel
    outs, ins, taps = _extent((o,)), _extent((c,)), _extent(kernel)
    tensor = np.asarray(layer.arranged((o, c, *kernel)), dtype=np.float64).reshape(outs, ins, taps)
    budget = int(outs * ins * taps / ratio)
    if "tucker2" not in task.spectra:
        task.spectra["tucker2"] = Spectra.of(tensor)
    spectra = task.spectra["tucker2"]
    assert isinstance(spectra, Spectra)
    energies = spectra.energies()[:, :, -1]
    options = [
        (float(energies[a - 1, b - 1]), a, b)
        for a in _ranks(outs)
        for b in _ranks(ins)
        if outs * a + ins * b + a * b * taps <= budget
    ]
    if not options:
        return None
    kept, a, b = max(options)
    if 1 - kept / max(spectra.total, 1e-300) > task.most_error**2:
        return None
    made, tag = Tucker2.of(tensor, (a, b)), f"tucker{a}x{b}"
    left, core, right = made.factors
    p, q = _iter("p", a), _iter("q", b)
    names = _Names(layer, tag)
    places = tuple(_iter(f"x{k}", e) for k, e in enumerate(read.tensor.shape))
    before = tuple(q if k == axis else x for k, x in enumerate(places))
    reduced, middle = names.value("reduced", before), names.value("core", (p, *layer.loops))
    first, one = names.weight("right", (q, c))
    second, other = names.weight("core_weight", (p, q, *kernel))
    third, last = names.weight("left", (o, p))
    source = read.tensor.at([index(c) if k == axis else index(x) for k, x in enumerate(places)])
    data = _instead(layer.data, read, reduced.at([index(q) if k == axis else w for k, w in enumerate(read.indices)]))
    stages = (
        Compute((reduced,), before, (sum_over((c,), apply("mul", source, one)),)),
        Compute((middle,), (p, *layer.loops), (sum_over((q, *kernel), apply("mul", data, other)),)),
        _ending(layer, sum_over((p,), apply("mul", middle.at((p, *layer.loops)), last))),
    )
    weights = {third: left, second: core.reshape(_sizes(second)), first: right}
    return _done(layer, tag, stages, weights, made.whole())


def spatial(task: _Task) -> Factorized | None:
    """A kernel of columns, then one of rows, with a rank in between."""
    layer, ratio = task.layer, task.ratio
    found = _image(layer)
    if found is None or len(layer.kernel) != 2:
        return None
    o, c, read, _ = found
    down, across = layer.kernel
    axes = [next(k for k, w in enumerate(read.indices) if i in w.atoms) for i in layer.kernel]
    if min(_extent((down,)), _extent((across,))) < 2 or axes[0] == axes[1]:
        return None
    tensor = np.asarray(layer.arranged((o, c, down, across)), dtype=np.float64)
    outs, ins, a, b = tensor.shape
    rank = _rank(outs * ins * a * b / (ratio * (outs * b + ins * a)), min(outs * b, ins * a))
    if rank < 1:
        return None
    unfolded = tensor.transpose(0, 3, 1, 2).reshape(outs * b, ins * a)
    if task.spectrum("spatial", unfolded).error(rank) > task.most_error:
        return None
    made, tag = SpatialSvd.of(tensor, rank), f"spatial{rank}"
    left, right = made.factors
    r, names = _iter("rank", rank), _Names(layer, tag)
    slide = {k: read.indices[k] for k in axes}
    row = next((i for i in layer.loops if i in slide[axes[0]].atoms), None)
    column = next((i for i in layer.loops if i in slide[axes[1]].atoms), None)
    if row is None or column is None or row is column:
        return None
    width = _iter("x", read.tensor.shape[axes[1]])
    between = tuple(width if i is column else i for i in layer.loops)
    inner = names.value("inner", (*between, r))
    first, one = names.weight("right", (r, c, down))
    second, other = names.weight("left", (o, r, across))
    bounds = layer.data.guard.bounds if isinstance(layer.data, Select) else ()
    vertical = [x for x in bounds if across not in x.value.atoms and column not in x.value.atoms]
    horizontal = [x for x in bounds if x not in vertical]
    if any(down in x.value.atoms or row in x.value.atoms for x in horizontal):
        return None
    moved = read.tensor.at([index(width) if k == axes[1] else w for k, w in enumerate(read.indices)])
    inner_read = inner.at([*(slide[axes[1]] if i is column else index(i) for i in layer.loops), index(r)])
    stages = (
        Compute((inner,), (*between, r), (sum_over((c, down), apply("mul", _guarded(moved, vertical), one)),)),
        _ending(layer, sum_over((r, across), apply("mul", _guarded(inner_read, horizontal), other))),
    )
    return _done(layer, tag, stages, {second: left, first: right}, made.whole())


MAKERS: Final[Mapping[str, Maker]] = MappingProxyType(
    {"low_rank": low_rank, "block_train": block_train, "tucker2": tucker2, "spatial": spatial}
)


class _Names:
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


def _image(layer: Layer) -> tuple[Iter, Iter, Read, int] | None:
    """Filters, channels, the read of the image and its channel axis, where a kernel slides over a plain image."""
    if len(layer.rows) != 1 or len(layer.channels) != 1 or not layer.kernel:
        return None
    (c,) = layer.channels
    read = layer.data.inside if isinstance(layer.data, Select) else layer.data
    if not isinstance(read, Read):
        return None
    axes = [k for k, w in enumerate(read.indices) if c in w.atoms]
    if len(axes) != 1 or read.indices[axes[0]] is not index(c) or read.tensor.shape[axes[0]] != c.extent:
        return None
    bounds = layer.data.guard.bounds if isinstance(layer.data, Select) else ()
    if any(c in b.value.atoms for b in bounds):
        return None
    return layer.rows[0], c, read, axes[0]


def _guarded(read: Read, bounds: Sequence[Bound]) -> Scalar:
    if not bounds:
        return read
    where = guard(*((b.low, b.value, b.high) for b in bounds))
    return select(where, read, const(0, read.dtype))


def _instead(data: Scalar, old: Read, new: Read) -> Scalar:
    return rebuild(data, lambda t: new if t is old else t)


def _at(data: Scalar, mapping: Mapping[Iter, Index]) -> Scalar:
    return substitute_iters(data, dict(mapping.items()))


def _ending(layer: Layer, term: Scalar) -> Compute:
    """The layer's own stage with another term in the place of its sum: bias and whatever else is around stay."""
    body = rebuild(layer.stage.bodies[0], lambda t: term if t is layer.total else t)
    return Compute(layer.stage.outs, layer.stage.loops, (body,))


def _ranks(size: int) -> list[int]:
    return [r for r in range(1, size + 1) if r % LANES == 0 or (size < 2 * LANES and r < LANES)] or [size]


def _divisor(size: int) -> int:
    """The divisor nearest to the square root."""
    return min((d for d in range(1, size + 1) if size % d == 0), key=lambda d: abs(d - sqrt(size)))


def _done(
    layer: Layer, tag: str, stages: tuple[Compute, ...], weights: Mapping[Tensor, Floats], whole: Floats
) -> Factorized:
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
    return loops * max((_extent(t.iters) for t in reduced), default=0)
