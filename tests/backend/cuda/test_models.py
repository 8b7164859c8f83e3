"""Every Compute stage of whole models has a kernel for a GPU; run on the CPU, the kernels agree with the algebra."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.cuda_on_cpu import A100, call_guarded, kernel_on_cpu
from support.model_kernels import LARGEST_ERROR, MODELS, ZOO, Values, error, given, uncovered, values, weights

from tpopt._compile.cubins import cubins_of
from tpopt.backend.binding import Binder
from tpopt.backend.cuda import compilers
from tpopt.backend.cuda.binding import request_of
from tpopt.backend.cuda.candidates import candidates
from tpopt.backend.cuda.device import Device
from tpopt.backend.generated.constants import constants_of, value_of
from tpopt.backend.generated.groups import points
from tpopt.choose.candidate import Candidate, Candidates
from tpopt.ir import Compute
from tpopt.options import Options

pytestmark = pytest.mark.acceptance

MOST_TERMS = 1 << 28
"""Terms of a kernel that the CPU goes through in a few seconds."""


def disagreements(candidate: Candidate, binder: Binder, known: Values) -> Iterator[str]:
    stage = candidate.stage
    fixed = constants_of(stage)
    kernel = kernel_on_cpu(request_of(stage), {n: value_of(stage.reads[n], binder) for n in fixed})
    moving = [known[t.name] for n, t in enumerate(stage.reads) if n not in fixed]
    for out, result in zip(stage.outs, call_guarded(kernel, moving), strict=True):
        off = error(result, known[out.name])
        if not off <= LARGEST_ERROR:
            yield f"{candidate.name}: {out.name} is off by {off}"


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_is_generated_and_agrees(name: str):
    traced, program, tensors = given(*MODELS[name]())
    found = Candidates()
    candidates(program, found, A100)
    assert uncovered(program, found) == []
    binder, known = Binder(weights(traced, program)), values(program, tensors)
    wrong = []
    for candidate in found.admitted:
        if sum(points(s) for s in candidate.stage.defines if isinstance(s, Compute)) <= MOST_TERMS:
            wrong += disagreements(candidate, binder, known)
    assert wrong == []


@pytest.mark.skipif(compilers.obstacle() is not None, reason="there is no compiler for CUDA on this machine")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_compiles_to_cubins(name: str, arch: str):
    model, inputs = MODELS[name]()
    with torch.no_grad():
        made = cubins_of(model.eval(), inputs, {}, Options(), Device.of(arch))
    assert [f"{c.name}: {c.reason}" for c in made if c.reason] == []
