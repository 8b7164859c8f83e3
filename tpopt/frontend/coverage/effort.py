"""How much work an operator's algebra does, beside ATen's own.

The unit is a step: one element that a stage writes, or one that a reduction takes in, whatever the expression there.
What an expression computes counts where growth is concerned: one that is longer at a larger size shows there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from tpopt.frontend.coverage.calls import Call, Called, tensors_of
from tpopt.frontend.coverage.inner_work import INNER_WORK
from tpopt.frontend.coverage.table import SIZES
from tpopt.ir import DENSE, Compute, Cond, Iter, Kernel, Program, Reduce, Scan, Scatter, Sort, Stage, TopK
from tpopt.ir.aten import resolve
from tpopt.ir.index import IndexLike, evaluate, index, walk_atoms
from tpopt.ir.terms import Scalar
from tpopt.ir.walk import own_indices, postorder
from tpopt.ir.work import stage_work

Sizes = Mapping[str, int]


def steps(program: Program, sizes: Sizes) -> int:
    """Points of the loops of a program's stages, copies among them, and of each distinct reduction within them."""
    return sum(_stage(s, sizes) for s in program.stages)


def operations(program: Program, sizes: Sizes) -> int:
    """Arithmetic operations of a program, multiply-adds as one; of a transform its steps."""
    return sum(_operations(s, sizes) for s in program.stages)


def _operations(stage: Stage, sizes: Sizes) -> int:
    if isinstance(stage, Kernel) and "fft" in stage.implementation:
        return _stage(stage, sizes)
    found = stage_work(stage, sizes)
    return found.macs + found.flops


def growth(ratios: Sequence[float]) -> float:
    """Exponent of the size by which a ratio grows from the first of :data:`SIZES` to the last; 0 where one is 0."""
    if not all(ratios):
        return 0.0
    return math.log(ratios[-1] / ratios[0]) / math.log(SIZES[-1] / SIZES[0])


def _stage(stage: Stage, sizes: Sizes) -> int:
    match stage:
        case Compute():
            return _points(stage.loops, sizes) + _reductions(stage.bodies, sizes)
        case Scatter():
            base = math.prod(_size(n, sizes) for n in stage.out.shape)
            return base + _points(stage.loops, sizes) + _reductions((stage.value,), sizes)
        case Scan():
            each = sum(_stage(s, {**sizes, stage.over.name: 0}) for s in stage.body.stages)
            return _size(stage.over.extent, sizes) * each
        case Cond():
            return max(sum(_stage(s, sizes) for s in branch.stages) for branch in (stage.then, stage.otherwise))
        case Sort() | TopK():
            depth = _size(stage.source.shape[stage.axis] if isinstance(stage, Sort) else index(stage.k) + 1, sizes)
            return math.prod(_size(n, sizes) for n in stage.source.shape) * math.ceil(math.log2(max(2, depth)))
        case Kernel() if "fft" in stage.implementation:
            shapes = [[_size(n, sizes) for n in t.shape] for t in (*stage.reads, *stage.outs) if t.structure is DENSE]
            return max(map(math.prod, shapes)) * math.ceil(math.log2(max(2, *(n for s in shapes for n in s))))
        case Kernel():
            return sum(_stage(s, sizes) for s in stage.defines)
        case _:
            return 0


def _reductions(bodies: Iterable[Scalar], sizes: Sizes) -> int:
    """Distinct reductions: those that differ only in the value they pick are one."""
    distinct = {(r.monoid, r.iters, r.bodies): r for r in postorder(*bodies) if isinstance(r, Reduce)}
    return sum(_points(_iterators(r), sizes) for r in distinct.values())


def _iterators(reduction: Reduce) -> tuple[Iter, ...]:
    """Iterators that the reduction runs over and depends on."""
    found = dict.fromkeys(reduction.iters)
    for term in postorder(*reduction.bodies):
        for where in own_indices(term):
            found.update(dict.fromkeys(a for a in walk_atoms(where) if isinstance(a, Iter)))
    return tuple(found)


def _points(iterators: Iterable[Iter], sizes: Sizes) -> int:
    return math.prod(_size(i.extent, sizes) for i in iterators)


def _size(extent: IndexLike, sizes: Sizes) -> int:
    return max(0, evaluate(extent, sizes))


def aten_steps(overload: str, call: Call) -> int:
    """Elements that ATen reads and writes in a call, or the steps of its inner loops where those are more."""
    tensors = [t.clone() for t in tensors_of(call)]  # the operator may write into its arguments
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = Called(resolve(overload), call)(*tensors)
    results = [v for v in pytree.tree_leaves(result) if isinstance(v, torch.Tensor)]
    moved = sum(t.numel() for t in (*tensors, *results))
    inner = INNER_WORK[overload](*call[0]) if overload in INNER_WORK else 0
    return max(moved, int(counter.get_total_flops()) // 2, inner, 1)
