"""Which stages are worth one kernel: each alone, and each with what it can take in from before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from tpopt.backend.generated.fuse import shared
from tpopt.backend.generated.sizes import extent
from tpopt.errors import KernelUnsupported
from tpopt.ir import Compute, Kernel, Program, Read, Reduce, Stage, Tensor
from tpopt.ir.walk import postorder, stage_reads

MOST_STAGES = 32
"""Stages of one kernel: more hardly ever share rows, and each attempt costs time."""

KEPT_GROUPS = 1 << 14
"""Groups remembered: forms of one program have most of them in common."""
MOST_SERIAL = 1 << 20
"""Points of stages that run one after the other on one thread, as those do which share rows but have only one."""


@dataclass(frozen=True)
class Group:
    """Stages in program order, and those of their results that somebody else needs."""

    stages: tuple[Compute, ...]
    outs: tuple[Tensor, ...]


def expanded(program: Program) -> tuple[Stage, ...]:
    """The stages of a program with the algebra of its kernels in their place."""
    found: list[Stage] = []
    for stage in program.stages:
        found += stage.defines if isinstance(stage, Kernel) and stage.defines else (stage,)
    return tuple(found)


def groups(program: Program) -> Iterator[Group]:
    """Every group that is offered, once, in program order of the last stage."""
    stages = expanded(program)
    grower = _Grower(stages, frozenset(program.outputs))
    for stage in stages:
        if not isinstance(stage, Compute) or not stage_reads(stage):
            continue
        offered: dict[tuple[Compute, ...], None] = {(stage,): None}
        offered[grower.grown(stage, 1, fed=False)] = None
        for contractions in (0, 1, MOST_STAGES):
            offered[grower.grown(stage, contractions)] = None
        for members in offered:
            yield Group(members, grower.outs(members))


class _Grower:
    def __init__(self, stages: Sequence[Stage], outputs: frozenset[Tensor]) -> None:
        self._makers: dict[Tensor, Compute] = {}
        self._all: dict[Tensor, Stage] = {}
        self._order = {s: n for n, s in enumerate(stages)}
        self._readers: dict[Tensor, list[Stage]] = {}
        self._outputs = outputs
        self._before: dict[Stage, int] = {}
        for stage in stages:
            self._before[stage] = self._bits(self._all[t] for t in stage_reads(stage) if t in self._all)
            for tensor in stage_reads(stage):
                self._readers.setdefault(tensor, []).append(stage)
            if isinstance(stage, Compute):
                self._makers.update(dict.fromkeys(stage.outs, stage))
            self._all.update(dict.fromkeys(stage.outs, stage))

    def grown(self, last: Compute, contractions: int, *, fed: bool = True) -> tuple[Compute, ...]:
        """The largest group that ends with a stage and has at most so many sums of products, its own not counted.

        Without ``fed``, sums of products read what is there: what they are computed from would be computed anew for
        each of their terms, and what follows them is often all that is worth taking in.
        """
        members, turned_down = [last], set()
        while len(members) < MOST_STAGES:
            sources = [
                self._makers[t]
                for s in members
                if fed or not is_contraction(s)
                for t in stage_reads(s)
                if t in self._makers and self._makers[t] not in members and self._makers[t] not in turned_down
            ]
            if not sources:
                break
            source = max(sources, key=self._order.__getitem__)
            wider = sorted([*members, source], key=self._order.__getitem__)
            room = contractions > 0 or not is_contraction(source)
            if room and self._fits(wider):
                members = wider
                contractions -= is_contraction(source)
            else:
                turned_down.add(source)
        return tuple(members)

    def _fits(self, members: Sequence[Compute]) -> bool:
        return self._convex(members) and _shares(tuple(members), self.outs(members))

    def _bits(self, stages: Iterable[Stage]) -> int:
        """A set of stages, and of all that they are computed from, as bits."""
        found = 0
        for stage in stages:
            found |= 1 << self._order[stage] | self._before[stage]
        return found

    def _convex(self, members: Sequence[Compute]) -> bool:
        """Whether nothing that the members read from outside is computed from one of them."""
        inside = sum(1 << self._order[s] for s in members)
        read = {self._all[t] for s in members for t in stage_reads(s) if t in self._all}
        return not any(self._before[s] & inside for s in read if not inside >> self._order[s] & 1)

    def outs(self, members: Sequence[Compute]) -> tuple[Tensor, ...]:
        """Results that are outputs of the program, or read by a stage outside; those of the last stage always."""
        inside = set(members)
        found = []
        for stage in members:
            for out in stage.outs:
                outside = out in self._outputs or any(r not in inside for r in self._readers.get(out, ()))
                if outside or stage is members[-1]:
                    found.append(out)
        return tuple(found)


@lru_cache(maxsize=KEPT_GROUPS)
def _shares(members: tuple[Compute, ...], outs: tuple[Tensor, ...]) -> bool:
    """Whether stages make one kernel that is worth it: with rows for all threads, or with little to do."""
    try:
        found = shared(members, outs)
        rows = found.stages[-1].loops[: found.depth]
        return not rows or prod(map(extent, rows)) > 1 or sum(map(points, members)) <= MOST_SERIAL
    except KernelUnsupported:  # sizes that nobody knows before the model runs, too
        return False


def points(stage: Compute) -> int:
    """How often the innermost term of a stage is evaluated."""
    sums = (prod(map(extent, t.iters)) for t in postorder(*stage.bodies) if isinstance(t, Reduce))
    return prod(map(extent, stage.loops)) * max(sums, default=1)


def is_contraction(stage: Compute) -> bool:
    """Whether a stage sums products of two tensors or more."""
    for term in postorder(*stage.bodies):
        if isinstance(term, Reduce):
            inside = {t.tensor for t in postorder(*term.bodies) if isinstance(t, Read)}
            if len(inside) > 1:
                return True
    return False
