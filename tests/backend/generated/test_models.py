"""Every Compute stage of whole models can be generated, and the kernels agree with the algebra."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.model_kernels import LARGEST_ERROR, MODELS, Values, error, given, uncovered, values, weights

from tpopt.backend.binding import Binder
from tpopt.backend.generated.binding import bind_generated, build_all
from tpopt.backend.generated.candidates import candidates
from tpopt.choose.candidate import Candidate, Candidates

pytestmark = pytest.mark.acceptance


def disagreements(candidate: Candidate, binder: Binder, known: Values) -> Iterator[str]:
    call = bind_generated(candidate.stage, binder, {})
    results = call.function(*call.fill(known.__getitem__)[0])
    for name, result in zip(call.outs, (results,) if call.single else results, strict=True):
        off = error(result, known[name])
        if not off <= LARGEST_ERROR:
            yield f"{candidate.name}: {name} is off by {off}"


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_is_generated_and_agrees(name: str):
    traced, program, tensors = given(*MODELS[name]())
    found = Candidates()
    candidates(program, found)
    assert uncovered(program, found) == []
    build_all(c.stage for c in found.admitted)
    binder, known = Binder(weights(traced, program)), values(program, tensors)
    assert [text for c in found.admitted for text in disagreements(c, binder, known)] == []
