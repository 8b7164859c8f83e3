"""Generated kernels as candidates: one for every stage, and for every group of stages that share their rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tpopt.backend.generated.binding import CONSTANTS, IMPLEMENTATION, MATRIX, request_of
from tpopt.backend.generated.groups import Group, groups, is_contraction
from tpopt.backend.generated.machine import host_processor
from tpopt.backend.generated.unroll import reads_literals
from tpopt.choose.candidate import CHANNELS_LAST, ROW, Candidate, Candidates, Value, in_layout
from tpopt.errors import KernelUnsupported
from tpopt.ir import Compute, Kernel, Program, Tensor
from tpopt.ir.walk import map_stage_tensors, stage_reads
from tpopt.rewrite.numerics import Numerics

KIND: Final = "generated"
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
        if self._matrix and sum(isinstance(s, Compute) and is_contraction(s) for s in kernel.defines) == 1:
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


def _placed(kernel: Kernel, layouts: dict[str, str]) -> Kernel:
    """The kernel over tensors in their layouts."""
    placed = map_stage_tensors(kernel, lambda t: in_layout(t, layouts.get(t.name, ROW)))
    assert isinstance(placed, Kernel)
    return placed
