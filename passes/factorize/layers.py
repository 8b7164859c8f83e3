"""Layers: sums of products of a value with a constant weight, whatever operator they came from."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from tpopt.ir import DENSE, Compute, DType, Iter, Program, Read, Reduce, Scalar, Select, Tensor, index, postorder
from tpopt.ir.program import Array
from tpopt.ir.walk import own_indices
from tpopt.rewrite import Refusal
from tpopt.rewrite.contraction import contraction
from tpopt.rewrite.stages import free_iters

LEAST_ELEMENTS = 1 << 12
"""A smaller weight has nothing to save."""


@dataclass(frozen=True)
class Layer:
    """``out[...] = f(sum[summed]{ data * weight[...] })`` with a weight whose every axis is one iterator.

    ``rows`` are loops of the stage that the weight alone depends on, ``columns`` the summed iterators, in the order of
    its axes; an axis of extent 1 belongs to neither.
    """

    stage: Compute
    total: Reduce
    data: Scalar
    read: Read
    value: Array
    rows: tuple[Iter, ...]
    columns: tuple[Iter, ...]

    @property
    def weight(self) -> Tensor:
        """The constant."""
        return self.read.tensor

    @property
    def name(self) -> str:
        """The tensor that the layer computes."""
        return self.stage.outs[0].name

    @property
    def kernel(self) -> tuple[Iter, ...]:
        """Summed iterators that slide over the data: they share an index of it with a loop."""
        sliding = {
            i
            for term in postorder(self.data)
            for where in own_indices(term)
            for i in self.columns
            if i in where.atoms and len(where.atoms) > 1
        }
        return tuple(i for i in self.columns if i in sliding)

    @property
    def channels(self) -> tuple[Iter, ...]:
        """The other summed iterators."""
        return tuple(i for i in self.columns if i not in self.kernel)

    @property
    def loops(self) -> tuple[Iter, ...]:
        """Loops of the stage that the data depends on."""
        return tuple(i for i in self.stage.loops if i not in self.rows)

    def arranged(self, order: tuple[Iter, ...]) -> Array:
        """The weight with these iterators as its axes."""
        own = {a: axis for axis, w in enumerate(self.read.indices) for a in w.atoms if isinstance(a, Iter)}
        kept = np.asarray(self.value).reshape([n for n in self.value.shape if n != 1] or [1])
        axes = [axis for axis, n in enumerate(self.value.shape) if n != 1]
        wide = [i for i in order if i in own and i.extent != 1]
        moved = kept.transpose([axes.index(own[i]) for i in wide]) if axes else kept
        return moved.reshape([int(str(i.extent)) for i in order])

    def macs(self) -> int:
        """Multiply-adds with all static loops."""
        loops = (*self.stage.loops, *self.columns)
        return prod(i.extent for i in loops if isinstance(i.extent, int))


def layers(program: Program, changing: Container[str] = ()) -> Iterator[Layer | tuple[str, Refusal]]:
    """Every layer of a program; for a product with a constant that is none, its name and why."""
    for stage in program.stages:
        if isinstance(stage, Compute):
            found = layer_of(stage, program, changing)
            if found is not None:
                yield found if isinstance(found, Layer) else (stage.outs[0].name, found)


def layer_of(stage: Compute, program: Program, changing: Container[str] = ()) -> Layer | Refusal | None:
    """The layer of a stage; ``None`` where no constant matrix is in its sum."""
    product = contraction(stage)
    constants = {w for w in program.weights if w.name in program.constants and w.name not in changing}
    if product is None:
        return None
    weights = [(f, r) for f, r in product.weights(constants) if len([e for e in r.tensor.shape if e != 1]) >= 2]
    if not weights:
        return None
    if len(weights) > 1 or len(product.factors) != 2:
        return Refusal("the sum is not of one value with one weight")
    ((factor, read),) = weights
    (data,) = (f for f in product.factors if f is not factor)
    if isinstance(factor, Select):
        return Refusal("the weight is read under a guard")
    if read.tensor.structure is not DENSE or read.tensor.dtype is not DType.F32:
        return Refusal(f"the weight is {read.tensor.dtype}, or has a structure already")
    if any(isinstance(t, Reduce) for t in postorder(data)):
        return Refusal("a sum inside the sum")
    value = program.constants[read.tensor.name]
    if value.size < LEAST_ELEMENTS:
        return Refusal(f"the weight has {value.size:,} elements, fewer than {LEAST_ELEMENTS:,}")
    total = next(t for t in postorder(stage.bodies[0]) if isinstance(t, Reduce))
    axes = _axes(read)
    if axes is None:
        return Refusal("the weight is not read whole, one iterator for each axis")
    moving = free_iters(data)
    shared = [i for i in axes if i in stage.loops and i in moving]
    if shared:
        return Refusal(f"the weight and the data share the loop {shared[0].name}: a product for each group")
    rows = tuple(i for i in axes if i in stage.loops)
    columns = tuple(i for i in axes if i in total.iters)
    if set(columns) != set(total.iters) or not rows or not columns:
        return Refusal("a summed iterator is not the weight's")
    if any(not isinstance(i.extent, int) for i in (*rows, *columns)):
        return Refusal("the weight's extents are not static")
    return Layer(stage, total, data, read, value, rows, columns)


def _axes(read: Read) -> list[Iter] | None:
    """The iterators of the axes; ``None`` where one is read in another way. Axes of extent 1 may be read at 0."""
    found: list[Iter] = []
    for where, extent in zip(read.indices, read.tensor.shape, strict=True):
        if extent == 1 and where.constant == 0:
            continue
        atom = where.atoms[0] if len(where.atoms) == 1 else None
        if not isinstance(atom, Iter) or where is not index(atom) or index(atom.extent) is not index(extent):
            return None
        found.append(atom)
    return found if len(set(found)) == len(found) else None
