"""Generated kernels as candidates: for every stage, every group of stages that share their rows, every loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Final

from tpopt.backend.cuda.binding import IMPLEMENTATION as CUDA
from tpopt.backend.generated.binding import FOREIGN, IMPLEMENTATION, MATRIX, SCHEDULE, request_of
from tpopt.backend.generated.constants import CONSTANTS
from tpopt.backend.generated.groups import Group, groups, is_contraction, points
from tpopt.backend.generated.kernel import obstacle
from tpopt.backend.generated.machine import host_processor
from tpopt.backend.generated.sizes import extent
from tpopt.backend.generated.tuned import tuned_decisions
from tpopt.backend.generated.unroll import reads_literals
from tpopt.choose.candidate import CHANNELS_LAST, ROW, Candidate, Candidates, Value, in_layout
from tpopt.errors import KernelUnsupported, UsageError
from tpopt.ir import Compute, Kernel, Program, Read, Scan, Select, Stage, Tensor
from tpopt.ir.walk import map_stage_tensors, postorder, stage_reads
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


def candidates(
    program: Program,
    found: Candidates,
    *,
    channels_last: frozenset[str] = frozenset(),
    certain: bool = False,
    known: set[Kernel] | None = None,
) -> None:
    """Adds what can be generated for a program's algebra; why not, where it cannot.

    ``channels_last`` names values that others take or make in that layout: what is computed from them, and they
    themselves, are offered in it too. ``certain`` leaves kernels out that are certain to be slower than a twin that is
    offered: those without the matrix unit, where there is one and the sums are long. It plans no more than it has to.
    ``known`` has the kernels that other forms of the program have offered, which are not offered again.
    """
    offers = _Offers(program, found, channels_last, certain, set() if known is None else known)
    for group in groups(program):
        offers.add(group)
    for stage in program.stages:
        if isinstance(stage, Scan):
            offers.loop(stage)


def is_generated(candidate: Candidate) -> bool:
    """Whether it runs a generated kernel, whatever it competes as."""
    return isinstance(candidate.stage, Kernel) and candidate.stage.implementation in (IMPLEMENTATION, CUDA)


def converting(candidate: Candidate, fixed: tuple[int, ...] = ()) -> Candidate | None:
    """A conversion as a generated kernel whose reads at ``fixed`` are constants; ``None`` where none can be made."""
    stage = candidate.stage
    assert isinstance(stage, Kernel)
    if obstacle() is not None:
        return None
    have, (made,) = {v.name: v.layout for v in candidate.needs}, candidate.produces
    kernel = Kernel(stage.outs, IMPLEMENTATION, stage.reads, stage.defines, ((CONSTANTS, fixed),))
    placed = map_stage_tensors(
        kernel, lambda t: in_layout(t, made.layout if t in kernel.outs else have.get(t.name, ROW))
    )
    assert isinstance(placed, Kernel)
    try:
        request = request_of(placed)
    except KernelUnsupported:
        return None
    return replace(candidate, name=f"{candidate.name}:{KIND}", stage=kernel, key=f"{IMPLEMENTATION} {request.digest}")


class _Offers:
    def __init__(
        self, program: Program, found: Candidates, channels_last: frozenset[str], certain: bool, known: set[Kernel]
    ) -> None:
        self._certain, self._known = certain, known
        self._constants = frozenset(w.name for w in program.weights) - {a.target for a in program.aliases}
        self._inputs = frozenset(program.inputs)
        self._found = found
        self._wanted = set(channels_last)
        processor = host_processor()
        self._matrix, self._tuned = processor.matrix, tuned_decisions(processor)

    def add(self, group: Group) -> None:
        last = group.stages[-1]
        made = {o for s in group.stages for o in s.outs}
        reads = tuple(dict.fromkeys(t for s in group.stages for t in stage_reads(s) if t not in made))
        outs = (*last.outs, *(o for o in group.outs if o not in last.outs))
        guarded = [t for t in reads if t in self._inputs and _is_guarded(t, group.stages)]
        kernel = self._kernel(outs, reads, group.stages, guarded)
        covers = tuple(o.name for s in group.stages for o in s.outs)
        layouts = self._layouts(kernel)
        placed = _placed(kernel, layouts)
        if placed in self._known:
            self._wanted.update(o.name for o in outs if o.name in layouts)
            return
        self._known.add(placed)
        if not layouts or not any(map(reads_literals, group.stages)):  # transforms want their channels side by side
            self._in_layouts(kernel, {}, covers)
        if layouts:
            self._in_layouts(kernel, layouts, covers)
            self._wanted.update(o.name for o in outs if o.name in layouts)

    def loop(self, scan: Scan) -> None:
        """A loop that carries a state, as it is."""
        reads = tuple(dict.fromkeys(stage_reads(scan)))
        steps = [t for s in scan.body.stages if isinstance(s, Compute) for t in postorder(*s.bodies)]
        guarded = [t for t in reads if t in self._inputs] if any(isinstance(t, Select) for t in steps) else []
        kernel = self._kernel(scan.outs, reads, (scan,), guarded)
        if kernel not in self._known:
            self._known.add(kernel)
            self._offer(kernel, {}, tuple(o.name for o in scan.outs))

    def _kernel(
        self, outs: tuple[Tensor, ...], reads: tuple[Tensor, ...], stages: tuple[Stage, ...], guarded: Sequence[Tensor]
    ) -> Kernel:
        """``guarded`` come from outside of the plan, and are not read everywhere that an index leads."""
        parameters = [(CONSTANTS, tuple(n for n, t in enumerate(reads) if t.name in self._constants))]
        if guarded:
            parameters.append((FOREIGN, tuple(n for n, t in enumerate(reads) if t in guarded)))
        return Kernel(outs, IMPLEMENTATION, reads, stages, tuple(parameters))

    def _in_layouts(self, kernel: Kernel, layouts: dict[str, str], covers: tuple[str, ...]) -> None:
        """Without the matrix unit and on it; on it alone where that is certain to be faster."""
        on_it = self._on_matrix_unit(kernel, layouts, covers)
        if not (on_it and self._certain and _is_long(kernel)):
            self._offer(kernel, layouts, covers)

    def _layouts(self, kernel: Kernel) -> dict[str, str]:
        """Which tensors lie in channels-last where some do: images that come so, and all images that are made."""
        moving = [t for t in kernel.reads if t.name not in self._constants and t not in self._inputs]
        images = [t for t in moving if t.rank == IMAGE_RANK and t.name in self._wanted]
        made = [o for o in kernel.outs if o.rank == IMAGE_RANK]
        if not images and not any(o.name in self._wanted for o in made):
            return {}
        return {t.name: CHANNELS_LAST for t in (*images, *made)}

    def _on_matrix_unit(self, kernel: Kernel, layouts: dict[str, str], covers: tuple[str, ...]) -> bool:
        """The same on the matrix unit, where there is one and the one sum is of products; whether it is offered."""
        sums = sum(isinstance(s, Compute) and is_contraction(s) for s in kernel.defines)
        if not self._matrix or sums != 1 or _macs(kernel) < WORTH_THE_UNIT:
            return False
        return self._offer(replace(kernel, parameters=(*kernel.parameters, (MATRIX, True))), layouts, covers)

    def _offer(self, kernel: Kernel, layouts: dict[str, str], covers: tuple[str, ...]) -> bool:
        name = f"{kernel.outs[0].name}:{KIND}" + (f":{CHANNELS_LAST}" if layouts else "")
        parameters = dict(kernel.parameters)
        name += f":{MATRIX}" if parameters.get(MATRIX) else ":tuned" if parameters.get(SCHEDULE) else ""

        def value(tensor: Tensor) -> Value:
            return Value(tensor.name, layouts.get(tensor.name, ROW))

        try:
            request = request_of(_placed(kernel, layouts))
            if not self._certain or dict(kernel.parameters).get(MATRIX):
                _ = request.plan  # what cannot be planned is refused here; before a race, by the worker that plans it
        except KernelUnsupported as error:
            self._found.refuse(name, KIND, covers, str(error))
            return False
        needs = tuple(value(t) for t in kernel.reads if t.name not in self._constants)
        produces = tuple(value(o) for o in kernel.outs)
        key = f"{IMPLEMENTATION} {request.digest}"
        self._found.add(Candidate(name, KIND, kernel, needs, produces, key, Numerics.REASSOCIATING, covers))
        if request.identity in self._tuned:
            decided = (*kernel.parameters, (SCHEDULE, self._tuned[request.identity]))
            self._offer(replace(kernel, parameters=decided), layouts, covers)
        return True


def _is_guarded(tensor: Tensor, stages: Sequence[Compute]) -> bool:
    """Whether a tensor is read under a guard."""
    held = (t for s in stages for t in postorder(*s.bodies) if isinstance(t, Select))
    return any(isinstance(r, Read) and r.tensor is tensor for t in held for r in postorder(t))


def _is_long(kernel: Kernel) -> bool:
    sums = [s for s in kernel.defines if isinstance(s, Compute) and is_contraction(s)]
    terms = [points(s) // prod(map(extent, s.loops)) for s in sums]
    return _macs(kernel) >= SURELY_FASTER and min(terms) >= LONG_TERMS


def _macs(kernel: Kernel) -> float:
    """Multiply-adds of a kernel of known sizes; none for one of others, which is not generated."""
    try:
        return float(sum(stage_work(s, {}).macs for s in kernel.defines))
    except UsageError:
        return 0.0


def _placed(kernel: Kernel, layouts: dict[str, str]) -> Kernel:
    """The kernel over tensors in their layouts."""
    if not layouts:
        return kernel
    placed = map_stage_tensors(kernel, lambda t: in_layout(t, layouts.get(t.name, ROW)))
    assert isinstance(placed, Kernel)
    return placed
