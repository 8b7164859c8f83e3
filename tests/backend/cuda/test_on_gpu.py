"""The same kernels on a GPU: small ones of every kind, and every stage of whole models."""

from __future__ import annotations

import pytest
import torch
from support.generated import program
from support.kernel_cases import CASES, difference, inputs
from support.model_kernels import LARGEST_ERROR, MODELS, error, given, values, weights

from tpopt.backend.binding import Binder
from tpopt.backend.cuda.binding import bind_generated
from tpopt.backend.cuda.candidates import candidates
from tpopt.backend.cuda.device import present_device
from tpopt.backend.cuda.kernel import CudaKernel
from tpopt.backend.cuda.request import CudaRequest
from tpopt.choose.candidate import Candidates
from tpopt.ir.to_torch import to_torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("case", CASES)
def test_a_kernel_agrees_with_its_algebra(case: str):
    body, outs, shapes = CASES[case]
    given_ = inputs(shapes)
    made = program(body, outs, **given_)
    exact = to_torch(made, dtype=torch.float64)(*given_.values())
    results = CudaKernel(CudaRequest.of(made, present_device(CUDA)), {})(*(t.to(CUDA) for t in given_.values()))
    results = results if isinstance(results, tuple) else (results,)
    assert difference(tuple(r.cpu() for r in results), exact) <= (1e-5 if case == "a long sum" else 2e-6)


@pytest.mark.acceptance
@pytest.mark.parametrize("name", MODELS)
def test_every_stage_of_a_model_agrees(name: str):
    traced, made, tensors = given(*MODELS[name]())
    found = Candidates()
    candidates(made, found, present_device(CUDA))
    known = {n: t.to(CUDA) for n, t in values(made, tensors).items()}
    binder = Binder({n: t.to(CUDA) for n, t in weights(traced, made).items()})
    wrong = []
    for candidate in found.admitted:
        call = bind_generated(candidate.stage, binder, {})
        results = call.function(*call.fill(known.__getitem__)[0])
        for out, result in zip(call.outs, (results,) if call.single else results, strict=True):
            off = error(result.cpu(), known[out].cpu())
            if not off <= LARGEST_ERROR:
                wrong.append(f"{candidate.name}: {out} is off by {off}")
    assert wrong == []
