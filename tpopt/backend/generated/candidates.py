"""Generated kernels as candidates: one for every stage, and for every group of stages that share their rows."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Final

from tpopt.backend.generated.binding import CONSTANTS, IMPLEMENTATION, MATRIX, request_of
from tpopt.backend.generated.groups import Group, groups, is_contraction, points
from tpopt.backend.generated.machine import host_processor
from tpopt.backend.generated.sizes import extent
from tpopt.backend.generated.unroll import reads_literals
from tpopt.choose.candidate import CHANNELS_LAST, ROW, Candidate, Candidates, Value, in_layout
from tpopt.errors import KernelUnsupported, UsageError
from tpopt.ir import Compute, Kernel, Program, Tensor
from tpopt.ir.walk import map_stage_tensors, stage_reads
from tpopt.ir.work import stage_work
from tpopt.rewrite.numerics import Numerics

KIND: Final = "generated"
WORTH_THE_UNIT: Final = 1 << 21
"""Multiply-adds from which a kernel on the matrix unit is offered."""
SURELY_FASTER: Final = 1 << 24
"""Multiply-adds from which kernels with long sums are built for the unit alone, where there is one."""
LONG_TERMS: Final = 256
IMAGE_RANK: Final = 4
"""Rank of the tensors that may lie in channels-last."""


def candidates(program: Program, found: Candidates, *, channels_last: frozenset[str] = frozenset()) -> None:
    """Adds what can be generated for a program's algebra; why not, where it cannot.

    ``channels_last`` names values that others take or make in that layout: what is computed from them, and they
    themselves, are offered in it too.
    """
    offers = _Offers(program, found, channels_last)
    for group in groups(program):
        offers.add(group)


class _Offers:
    def __init__(self, program: Program, found: Candidates, channels_last: frozenset[str]) -> None:
        self._constants = frozenset(w.name for w in program.weights) - {a.target for a in program.aliases}
        self._inputs = frozenset(program.inputs)
        self._found = found
        self._wanted = set(channels_last)
        self._matrix = host_processor().matrix

    def add(self, group: Group) -> None:
        last = group.stages[-1]
        made = {o for s in group.stages for o in s.outs}
        reads = tuple(dict.fromkeys(t for s in group.stages for t in stage_reads(s) if t not in made))
        outs = (*last.outs, *(o for o in group.outs if o not in last.outs))
        fixed = tuple(n for n, t in enumerate(reads) if t.name in self._constants)
        kernel = Kernel(outs, IMPLEMENTATION, reads, group.stages, ((CONSTANTS, fixed),))
        covers = tuple(o.name for s in group.stages for o in s.outs)
        layouts = self._layouts(kernel)
        if not layouts or not any(map(reads_literals, group.stages)):  # transforms want their channels side by side
            self._offer(kernel, {}, covers)
            self._on_matrix_unit(kernel, {}, covers)
        if layouts:
            self._offer(kernel, layouts, covers)
            self._on_matrix_unit(kernel, layouts, covers)
            self._wanted.update(o.name for o in outs if o.name in layouts)

    def _layouts(self, kernel: Kernel) -> dict[str, str]:
        """Which tensors lie in channels-last where some do: images that come so, and all images that are made."""
        moving = [t for t in kernel.reads if t.name not in self._constants and t not in self._inputs]
        images = [t for t in moving if t.rank == IMAGE_RANK and t.name in self._wanted]
        made = [o for o in kernel.outs if o.rank == IMAGE_RANK]
        if not images and not any(o.name in self._wanted for o in made):
            return {}
        return {t.name: CHANNELS_LAST for t in (*images, *made)}

    def _on_matrix_unit(self, kernel: Kernel, layouts: dict[str, str], covers: tuple[str, ...]) -> None:
        """The same on the matrix unit, where there is one and the kernel's one sum is of products."""
        sums = sum(isinstance(s, Compute) and is_contraction(s) for s in kernel.defines)
        if self._matrix and sums == 1 and _macs(kernel) >= WORTH_THE_UNIT:
            self._offer(replace(kernel, parameters=(*kernel.parameters, (MATRIX, True))), layouts, covers)

    def _offer(self, kernel: Kernel, layouts: dict[str, str], covers: tuple[str, ...]) -> None:
        name = f"{kernel.outs[0].name}:{KIND}" + (f":{CHANNELS_LAST}" if layouts else "")
        name += f":{MATRIX}" if dict(kernel.parameters).get(MATRIX) else ""

        def value(tensor: Tensor) -> Value:
            return Value(tensor.name, layouts.get(tensor.name, ROW))

        try:
            request = request_of(_placed(kernel, layouts))
            _ = request.plan  # what cannot be planned is refused here, not by the worker
        except KernelUnsupported as error:
            self._found.refuse(name, KIND, covers, str(error))
            return
        needs = tuple(value(t) for t in kernel.reads if t.name not in self._constants)
        produces = tuple(value(o) for o in kernel.outs)
        key = f"{IMPLEMENTATION} {request.digest}"
        self._found.add(Candidate(name, KIND, kernel, needs, produces, key, Numerics.REASSOCIATING, covers))


def drop_twins(found: Candidates) -> None:
    """Refuses kernels without the matrix unit whose twins with it are certain to be faster: they need not be built."""
    better = {
        (c.needs, c.produces, c.covers)
        for c in found.admitted
        if isinstance(c.stage, Kernel) and dict(c.stage.parameters).get(MATRIX) and _is_long(c.stage)
    }
    kept = []
    for candidate in found.admitted:
        same = (candidate.needs, candidate.produces, candidate.covers) in better
        if same and candidate.kind == KIND and not dict(_kernel(candidate).parameters).get(MATRIX):
            found.refuse(candidate.name, KIND, candidate.covers, "the same kernel on the matrix unit is faster")
        else:
            kept.append(candidate)
    found.admitted = kept


def _is_long(kernel: Kernel) -> bool:
    sums = [s for s in kernel.defines if isinstance(s, Compute) and is_contraction(s)]
    terms = [points(s) // prod(map(extent, s.loops)) for s in sums]
    return _macs(kernel) >= SURELY_FASTER and min(terms) >= LONG_TERMS


def _kernel(candidate: Candidate) -> Kernel:
    assert isinstance(candidate.stage, Kernel), "what is generated is a kernel"
    return candidate.stage


def _macs(kernel: Kernel) -> float:
    """Multiply-adds of a kernel of known sizes; none for one of others, which is not generated."""
    try:
        return float(sum(stage_work(s, {}).macs for s in kernel.defines))
    except UsageError:
        return 0.0


def _placed(kernel: Kernel, layouts: dict[str, str]) -> Kernel:
    """The kernel over tensors in their layouts."""
    placed = map_stage_tensors(kernel, lambda t: in_layout(t, layouts.get(t.name, ROW)))
    assert isinstance(placed, Kernel)
    return placed
