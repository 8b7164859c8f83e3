"""The architectures themselves: reproducible, and captured except where they are meant not to be."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree

from architectures import ARCHITECTURES, REFUSED
from tpopt.errors import UnsupportedModel
from tpopt.frontend.capture import capture


def captured(name: str) -> torch.export.ExportedProgram:
    model, inputs = ARCHITECTURES[name]()
    return capture(model, inputs, {}, None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_is_the_same_every_time_and_leaves_the_random_state_alone(name):
    before = torch.get_rng_state()
    outputs = []
    for _ in range(2):
        model, inputs = ARCHITECTURES[name]()
        with torch.no_grad():
            outputs.append(_pytree.tree_leaves(model(*inputs)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) and bool(a.isfinite().all()) for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in REFUSED])
def test_it_is_captured(name):
    assert captured(name).graph_signature.user_outputs


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name):
    with pytest.raises(UnsupportedModel, match=r"GuardOnDataDependentSymNode: .*data-dependent"):
        captured(name)
