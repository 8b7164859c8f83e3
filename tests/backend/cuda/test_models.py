"""Every stage of whole models has a kernel for a GPU; run on the CPU, the kernels agree with the algebra."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fuzz.models import Model, random_recipe
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
    constants = {n: value_of(stage.reads[n], binder) for n in fixed}
    moving = [known[t.name] for n, t in enumerate(stage.reads) if n not in fixed]
    for backwards in (0, 1):  # threads in their order, and in the opposite one
        kernel = kernel_on_cpu(request_of(stage), constants, backwards)
        for out, result in zip(stage.outs, call_guarded(kernel, moving), strict=True):
            off = error(result, known[out.name])
            if not off <= LARGEST_ERROR:
                yield f"{candidate.name}: {out.name} is off by {off}"


def checked(model: torch.nn.Module, inputs: tuple, device: Device) -> tuple[list[str], list[str]]:
    """Runs every kernel of a model on what it gets in a run of it; what is wrong, and values without a kernel."""
    traced, program, tensors = given(model, inputs)
    found = Candidates()
    candidates(program, found, device)
    binder, known = Binder(weights(traced, program)), values(program, tensors)
    wrong = []
    for candidate in found.admitted:
        if sum(points(s) for s in candidate.stage.defines if isinstance(s, Compute)) <= MOST_TERMS:
            wrong += disagreements(candidate, binder, known)
    return wrong, uncovered(program, found)


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_is_generated_and_agrees(name: str):
    assert checked(*MODELS[name](), A100) == ([], [])


@pytest.mark.parametrize("seed", range(60))
def test_the_kernels_of_random_models_agree(seed: int):
    recipe = random_recipe(seed, steps=6)
    wrong, _ = checked(Model(recipe), recipe.inputs(), Device("sm_80", 1 if seed % 2 else A100.multiprocessors))
    assert wrong == []


@pytest.mark.skipif(compilers.obstacle() is not None, reason="there is no compiler for CUDA on this machine")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_compiles_to_cubins(name: str, arch: str):
    model, inputs = MODELS[name]()
    with torch.no_grad():
        made = cubins_of(model.eval(), inputs, {}, Options(), Device.of(arch))
    assert [f"{c.name}: {c.reason}" for c in made if c.reason] == []
