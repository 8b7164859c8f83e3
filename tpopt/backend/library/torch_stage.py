"""A stage by torch operators: the kernel for algebra that no library call covers.

A rewritten program has tensors that no operator of the original computes. Where some kernel wants one of them, these
candidates bridge the gap; and a product of computed tensors may be cheaper as elementwise work than as a tiny GEMM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tpopt.backend.binding import Binder
from tpopt.backend.call import Call, Ref
from tpopt.backend.library.contraction import match_contraction
from tpopt.choose.candidate import Candidate, Candidates, Value
from tpopt.choose.keys import kernel_key
from tpopt.ir import Compute, Kernel, Lookup, Program, index
from tpopt.ir.canonical import stage_key
from tpopt.ir.index import walk_atoms
from tpopt.ir.to_torch.compute import lower_compute
from tpopt.ir.to_torch.setting import Setting
from tpopt.ir.to_torch.tape import Plan, plain_tensors
from tpopt.ir.walk import own_indices, postorder, stage_reads
from tpopt.rewrite.numerics import Numerics

KIND = "torch"


def bridge_candidates(forms: Sequence[Program], found: Candidates) -> None:
    """Adds a candidate for every stage whose result some candidate needs and none computes, and for computed products.

    Goes backwards, so that what the new candidates need is bridged too.
    """
    constants = frozenset(w.name for form in forms for w in form.weights)
    made = {v.name for c in found.admitted if c.kind != "layout" for v in c.produces}
    wanted = {v.name for c in found.admitted for v in c.needs}
    offered: dict[str, Candidate] = {}
    for form in forms:
        for stage in reversed(form.stages):
            names = [o.name for o in stage.outs]
            if not isinstance(stage, Compute) or not stage_reads(stage) or names[0] in offered:
                continue
            missing = any(n in wanted and n not in made for n in names)
            if (missing or _is_computed_product(stage, constants)) and not _looks_up(stage):
                offered[names[0]] = _candidate(stage, constants)
                wanted.update(v.name for v in offered[names[0]].needs)
                made.update(names)
    for candidate in reversed(offered.values()):
        found.add(candidate)


def _candidate(stage: Compute, constants: frozenset[str]) -> Candidate:
    reads = stage_reads(stage)
    kernel = Kernel(stage.outs, "torch.stage", reads, (stage,), (("stage", stage_key(stage)),))
    needs = tuple(Value(t.name) for t in reads if t.name not in constants)
    made, covers = tuple(Value(o.name) for o in stage.outs), tuple(o.name for o in stage.outs)
    name, key = f"{stage.outs[0].name}:torch", kernel_key(kernel, "")
    return Candidate(name, KIND, kernel, needs, made, key, Numerics.REASSOCIATING, covers)


def _is_computed_product(stage: Compute, constants: frozenset[str]) -> bool:
    match = match_contraction(stage)
    if isinstance(match, str):
        return False
    return not {match.left.tensor.name, match.right.tensor.name} & constants


def _looks_up(stage: Compute) -> bool:
    """Whether it reads at indices that are data: the original operator checks those, a bare read does not."""
    indices = (i for term in postorder(*stage.bodies) for i in own_indices(term))
    return any(isinstance(a, Lookup) for i in indices for a in walk_atoms(index(i)))


def bind_stage(stage: Kernel, _binder: Binder, sizes: Mapping[str, int]) -> Call:
    """``torch.stage``: the stage as a list of torch calls, written down at the first call on a device."""
    (compute,) = stage.defines
    assert isinstance(compute, Compute)
    names = [t.name for t in stage.reads]
    plans: dict[torch.device, Plan] = {}

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        device = tensors[0].device
        if device not in plans:
            with plain_tensors():
                plans[device] = lower_compute(compute, Setting(None, device, sizes))
        outs = plans[device](dict(zip(names, tensors, strict=True)))
        return tuple(o.resolve_conj().resolve_neg() for o in outs)

    refs = tuple(Ref(n) for n in names)
    single = len(stage.outs) == 1
    call = (lambda *tensors: run(*tensors)[0]) if single else run
    return Call("torch", call, refs, (), tuple(o.name for o in stage.outs), single)


BINDERS = {"torch.stage": bind_stage}
