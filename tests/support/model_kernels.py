"""Whole models as programs, with every value of a run of them: what kernels are compared with."""

from __future__ import annotations

from dataclasses import replace

import torch
from architectures import ARCHITECTURES, REFUSED
from torch.utils import _pytree as pytree

from tpopt.backend.generated.groups import expanded
from tpopt.bench.suites import load_suite
from tpopt.choose.candidate import Candidates
from tpopt.frontend.trace import Traced, trace
from tpopt.ir import Compute, Program, Stage, aten
from tpopt.ir.rename import symbols_used
from tpopt.ir.to_torch import to_torch
from tpopt.ir.walk import stage_reads
from tpopt.rewrite import forms, registry

ZOO = (
    "resnet18 dcgan infogan fsrcnn gcn csrnet longformer fno2d bert mace mobilenet_v2 vit_s16 gpt2_prefill gpt2_decode"
).split()
MODELS = {**{n: f for n, f in ARCHITECTURES.items() if n not in REFUSED}, **{n: load_suite("zoo")[n] for n in ZOO}}
LARGEST_ERROR = 3e-6
"""Relative L2 norm of the difference from the algebra in the model's own types."""

Values = dict[str, torch.Tensor]


def given(model: torch.nn.Module, inputs: tuple) -> tuple[Traced, Program, list[torch.Tensor]]:
    traced = trace(model.eval(), inputs)
    leaves = pytree.tree_leaves((inputs, {}))
    tensors = [leaf for leaf, name in zip(leaves, traced.inputs, strict=True) if name is not None]
    tensors += [traced.weights[name] for name in traced.states]
    return traced, forms(registry().parse("default"), traced.algebra)[0], tensors


def weights(traced: Traced, program: Program) -> Values:
    own = {n: t.detach() for n, t in traced.weights.items()}
    folded = [w for w in program.weights if w.name in program.constants]
    return own | {w.name: aten.from_numpy(program.constants[w.name], w.dtype) for w in folded if w.name not in own}


def values(program: Program, tensors: list[torch.Tensor]) -> Values:
    """Every value of a run, those inside kernels too."""
    found = dict(zip((t.name for t in program.inputs), tensors, strict=True))

    def note(stage: Stage, outs: tuple[torch.Tensor, ...]) -> None:
        made = (o.resolve_conj().resolve_neg().contiguous() for o in outs)
        found.update(zip((o.name for o in stage.outs), made, strict=True))

    with torch.no_grad():
        to_torch(replace(program, stages=expanded(program)))(*tensors, on_stage=note)
    return found


def error(result: torch.Tensor, expected: torch.Tensor) -> float:
    if result.shape != expected.shape or result.dtype is not expected.dtype:
        return float("inf")
    if not (expected.is_floating_point() or expected.is_complex()):
        return 0.0 if torch.equal(result, expected) else float("inf")
    if not torch.equal(torch.isfinite(result), torch.isfinite(expected)):
        return float("inf")
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = (torch.where(torch.isfinite(t), t, 0).to(wide) for t in (result, expected))
    return float((a - b).norm() / b.norm().clamp(min=1e-30)) if bool((a != b).any()) else 0.0


def uncovered(program: Program, found: Candidates) -> list[str]:
    """Values of stages that candidates do not compute."""
    covered = {covers for c in found.admitted for covers in c.covers}
    stages = [s for s in expanded(program) if isinstance(s, Compute) and stage_reads(s) and not symbols_used(s)]
    return [s.outs[0].name for s in stages if s.outs[0].name not in covered]
