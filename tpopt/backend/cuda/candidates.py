"""Generated kernels for a GPU as candidates: one for every stage, one for every group that shares rows."""

from __future__ import annotations

from typing import Final

import torch

from tpopt.backend.cuda import compilers, driver
from tpopt.backend.cuda.binding import ARCH, IMPLEMENTATION, MULTIPROCESSORS, request_of
from tpopt.backend.cuda.carried import carried_folder
from tpopt.backend.cuda.device import Device, present_device
from tpopt.backend.generated.constants import CONSTANTS
from tpopt.backend.generated.groups import Group, groups
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.errors import KernelUnsupported
from tpopt.ir import Kernel, Program, Tensor
from tpopt.ir.walk import stage_reads
from tpopt.rewrite.numerics import Numerics

KIND: Final = "generated"


def obstacle() -> str | None:
    """Why no kernel can be built or run on a GPU from this process; ``None`` where they can."""
    build = None if carried_folder() is not None else compilers.obstacle()
    for what, reason in (("built", build), ("run", driver.obstacle())):
        if reason is not None:
            return f"no kernel can be {what}: {reason}"
    return None


def current_device() -> Device:
    """The card that torch works on."""
    return present_device(torch.device("cuda", torch.cuda.current_device()))


def candidates(program: Program, found: Candidates, device: Device) -> None:
    """Adds what can be generated for a program's algebra on a card; why not, where it cannot."""
    constants = frozenset(w.name for w in program.weights) - {a.target for a in program.aliases}
    for group in groups(program):
        _offer(group, found, device, constants)


def _offer(group: Group, found: Candidates, device: Device, constants: frozenset[str]) -> None:
    last = group.stages[-1]
    made = {o for s in group.stages for o in s.outs}
    reads = tuple(dict.fromkeys(t for s in group.stages for t in stage_reads(s) if t not in made))
    outs = (*last.outs, *(o for o in group.outs if o not in last.outs))
    fixed = tuple(n for n, t in enumerate(reads) if t.name in constants)
    facts = ((CONSTANTS, fixed), (ARCH, device.arch), (MULTIPROCESSORS, device.multiprocessors))
    kernel = Kernel(outs, IMPLEMENTATION, reads, group.stages, facts)
    covers = tuple(o.name for s in group.stages for o in s.outs)
    name = f"{outs[0].name}:{KIND}"
    try:
        request = request_of(kernel)
        _ = request.plan
    except KernelUnsupported as error:
        found.refuse(name, KIND, covers, str(error))
        return
    key = f"{IMPLEMENTATION} {request.digest}"
    needs = tuple(_value(t) for t in reads if t.name not in constants)
    produces = tuple(map(_value, outs))
    found.add(Candidate(name, KIND, kernel, needs, produces, key, Numerics.REASSOCIATING, covers))


def _value(tensor: Tensor) -> Value:
    return Value(tensor.name, tensor.layout)
