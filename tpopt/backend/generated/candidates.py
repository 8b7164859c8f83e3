"""Generated kernels as candidates: one for every stage, and for every group of stages that share their rows."""

from __future__ import annotations

from collections.abc import Sequence

from tpopt.backend.generated.groups import Group, groups
from tpopt.backend.generated.kernel import IMPLEMENTATION, request_of
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.errors import KernelUnsupported
from tpopt.ir import Kernel, Program
from tpopt.ir.walk import stage_reads
from tpopt.rewrite.numerics import Numerics

KIND = "generated"


def generated_candidates(forms: Sequence[Program], found: Candidates) -> None:
    """Adds what can be generated for the algebra of each form; why not, where it cannot."""
    constants = frozenset(t.name for form in forms for t in form.weights) - _overwritten(forms)
    seen: set[tuple[str, tuple[str, ...]]] = set()
    numbers: dict[str, int] = {}
    for form in forms:
        for group in groups(form):
            _offer(group, constants, found, seen, numbers)


def _overwritten(forms: Sequence[Program]) -> frozenset[str]:
    """Weights that a run changes: their values are not constant."""
    return frozenset(a.target for form in forms for a in form.aliases)


def _offer(
    group: Group,
    constants: frozenset[str],
    found: Candidates,
    seen: set[tuple[str, tuple[str, ...]]],
    numbers: dict[str, int],
) -> None:
    made = {o for s in group.stages for o in s.outs}
    reads = tuple(dict.fromkeys(t for s in group.stages for t in stage_reads(s) if t not in made))
    outs = (*(o for o in group.stages[-1].outs), *(o for o in group.outs if o not in group.stages[-1].outs))
    covers = tuple(o.name for s in group.stages for o in s.outs)
    fixed = tuple(n for n, t in enumerate(reads) if t.name in constants)
    kernel = Kernel(outs, IMPLEMENTATION, reads, group.stages, (("constants", fixed),))
    name = f"{outs[0].name}:{KIND}"
    try:
        request = request_of(kernel)
        _ = request.plan
    except KernelUnsupported as error:
        found.refuse(name, KIND, covers, str(error))
        return
    key = f"{IMPLEMENTATION} {request.digest}"
    if (key, (*(t.name for t in reads), *(o.name for o in outs))) in seen:
        return
    seen.add((key, (*(t.name for t in reads), *(o.name for o in outs))))
    number = numbers[name] = numbers.get(name, 0) + 1
    needs = tuple(Value(t.name) for t in reads if t.name not in constants)
    produces = tuple(Value(o.name) for o in outs)
    own = name if number == 1 else f"{name}~{number}"
    found.add(Candidate(own, KIND, kernel, needs, produces, key, Numerics.REASSOCIATING, covers))
