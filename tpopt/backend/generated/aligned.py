"""Puts the loops that stages have in common first, whatever their place among the axes of results.

Layers over the channels of an image share its pixels, which are its last axes: a row is then a line of pixels, and what
lies between the layers is that line with all its channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final, TypeAlias

from tpopt.backend.generated.plan import dense_strides
from tpopt.backend.generated.sizes import extent, shape
from tpopt.ir import Compute, Iter, Read, Reduce, Scalar, Tensor, index
from tpopt.ir.interpret.terms import iters_of
from tpopt.ir.walk import own_indices, postorder, rebuild

LAYERS: Final = 2
LEAST_HANDED: Final = 1 << 18
"""Bytes that the first layer hands to the second below which these stay in the second cache anyway."""
LEAST_REUSE: Final = 4
"""Points of a row that read the same element of an operand, at least, in a sum of products that takes long."""
SMALL_PART: Final = 0.2
"""Part of a kernel's work below which a sum of products may be as slow as it is."""

Loop: TypeAlias = "tuple[int, Iter]"
"""A loop of one stage, by the stage's number."""


@dataclass(frozen=True)
class Aligned:
    """Stages whose first ``depth`` loops are shared; ``steps`` are the strides of ``outs`` as the stages index them."""

    stages: tuple[Compute, ...]
    outs: tuple[Tensor, ...]
    depth: int
    steps: Mapping[str, tuple[int, ...]]


def aligned(stages: Sequence[Compute], outs: Sequence[Tensor], most_bytes: int) -> Aligned | None:
    """Two layers with their loops in such an order; ``None`` where there is none that is worth it.

    They hand at most ``most_bytes`` a row to each other, and more than a cache holds in all.
    """
    private = [o for s in stages for o in s.outs if o not in outs]
    handed = sum(t.dtype.itemsize * prod(shape(t)) for t in private)
    if len(stages) != LAYERS or handed < LEAST_HANDED or not all(map(_sums, stages)):
        return None
    shared = _shared_loops(stages)
    for count in (len(shared) - 1, len(shared)) if _is_last(stages, shared) else (len(shared),):
        rows = shared[:count]
        held = handed // max(1, prod(extent(r[-1]) for r in rows))
        if count > 0 and held <= most_bytes and _is_worth_it(stages, rows):
            return _moved(stages, outs, rows)
    return None


def _shared_loops(stages: Sequence[Compute]) -> list[tuple[Iter, ...]]:
    """Loops that stand for the same in all stages, as one loop of each, in the order of the last stage's."""
    makers = {o: n for n, s in enumerate(stages) for o in s.outs}
    parent: dict[Loop, Loop] = {(n, i): (n, i) for n, s in enumerate(stages) for i in s.loops}
    apart: set[Loop] = set()

    def root(loop: Loop) -> Loop:
        while parent[loop] != loop:
            loop = parent[loop]
        return loop

    for number, stage in enumerate(stages):
        for read in (t for t in postorder(*stage.bodies) if isinstance(t, Read) and t.tensor in makers):
            maker = makers[read.tensor]
            for where, theirs in zip(read.indices, stages[maker].loops, strict=True):
                mine = next((i for i in stage.loops if where is index(i) and i.extent == theirs.extent), None)
                if mine is None:
                    apart.add((maker, theirs))
                else:
                    parent[root((maker, theirs))] = root((number, mine))
    classes: dict[Loop, list[Loop]] = {}
    for loop in parent:
        classes.setdefault(root(loop), []).append(loop)
    broken = {root(loop) for loop in apart}
    found = []
    for last in stages[-1].loops:
        members = classes[root((len(stages) - 1, last))]
        by_stage = dict(members)
        if root(members[0]) not in broken and len(members) == len(by_stage) == len(stages):
            found.append(tuple(by_stage[n] for n in range(len(stages))))
    return found


def _is_last(stages: Sequence[Compute], shared: Sequence[tuple[Iter, ...]]) -> bool:
    """Whether the last shared loop is the last of every stage: along it results lie side by side."""
    return bool(shared) and all(s.loops[-1] is i for s, i in zip(stages, shared[-1], strict=True))


def _is_worth_it(stages: Sequence[Compute], rows: Sequence[tuple[Iter, ...]]) -> bool:
    """Whether every sum of products that takes long has points in a row that read the same of each operand."""
    work = [_points(s) for s in stages]
    for number, stage in enumerate(stages):
        if work[number] < SMALL_PART * sum(work):
            continue
        inner = [i for i in stage.loops if not any(i is r[number] for r in rows)]
        for total in (t for t in postorder(*stage.bodies) if isinstance(t, Reduce)):
            for read in (t for t in postorder(*total.bodies) if isinstance(t, Read)):
                free = iters_of(own_indices(read))
                if prod(extent(i) for i in inner if i not in free) < LEAST_REUSE:
                    return False
    return True


def _sums(stage: Compute) -> bool:
    return any(isinstance(t, Reduce) for t in postorder(*stage.bodies))


def _points(stage: Compute) -> int:
    sums = (prod(map(extent, t.iters)) for t in postorder(*stage.bodies) if isinstance(t, Reduce))
    return prod(map(extent, stage.loops)) * max(sums, default=1)


def _moved(stages: Sequence[Compute], outs: Sequence[Tensor], rows: Sequence[tuple[Iter, ...]]) -> Aligned:
    orders = []
    for number, stage in enumerate(stages):
        first = [r[number] for r in rows]
        orders.append((*first, *(i for i in stage.loops if not any(i is f for f in first))))
    axes: dict[Tensor, tuple[int, ...]] = {}
    for stage, order in zip(stages, orders, strict=True):
        axes.update(dict.fromkeys(stage.outs, tuple(stage.loops.index(i) for i in order)))
    views = {t: replace(t, shape=tuple(t.shape[a] for a in order)) for t, order in axes.items()}

    def one(term: Scalar) -> Scalar:
        if isinstance(term, Read) and term.tensor in views:
            return Read(views[term.tensor], tuple(term.indices[a] for a in axes[term.tensor]))
        return term

    moved = tuple(
        Compute(tuple(views[o] for o in s.outs), order, tuple(rebuild(b, one) for b in s.bodies))
        for s, order in zip(stages, orders, strict=True)
    )
    steps = {o.name: tuple(dense_strides(shape(o))[a] for a in axes[o]) for o in outs}
    return Aligned(moved, tuple(views[o] for o in outs), len(rows), steps)
