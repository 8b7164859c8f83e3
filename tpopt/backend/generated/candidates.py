"""Generated kernels as candidates: one for every stage, and for every group of stages that share their rows."""

from __future__ import annotations

from typing import Final

from tpopt.backend.generated.binding import CONSTANTS, IMPLEMENTATION, request_of
from tpopt.backend.generated.groups import Group, groups
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.errors import KernelUnsupported
from tpopt.ir import Kernel, Program
from tpopt.ir.walk import stage_reads
from tpopt.rewrite.numerics import Numerics

KIND: Final = "generated"


def candidates(program: Program, found: Candidates) -> None:
    """Adds what can be generated for a program's algebra; why not, where it cannot."""
    overwritten = {a.target for a in program.aliases}
    constants = frozenset(w.name for w in program.weights) - overwritten
    for group in groups(program):
        _offer(group, constants, found)


def _offer(group: Group, constants: frozenset[str], found: Candidates) -> None:
    last = group.stages[-1]
    made = {o for s in group.stages for o in s.outs}
    reads = tuple(dict.fromkeys(t for s in group.stages for t in stage_reads(s) if t not in made))
    outs = (*last.outs, *(o for o in group.outs if o not in last.outs))
    covers = tuple(o.name for s in group.stages for o in s.outs)
    fixed = tuple(n for n, t in enumerate(reads) if t.name in constants)
    kernel = Kernel(outs, IMPLEMENTATION, reads, group.stages, ((CONSTANTS, fixed),))
    name = f"{outs[0].name}:{KIND}"
    try:
        request = request_of(kernel)
        _ = request.plan  # what cannot be planned is refused here, not by the worker
    except KernelUnsupported as error:
        found.refuse(name, KIND, covers, str(error))
        return
    needs = tuple(Value(t.name) for t in reads if t.name not in constants)
    produces = tuple(Value(o.name) for o in outs)
    key = f"{IMPLEMENTATION} {request.digest}"
    found.add(Candidate(name, KIND, kernel, needs, produces, key, Numerics.REASSOCIATING, covers))
