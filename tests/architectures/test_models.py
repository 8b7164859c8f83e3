"""The architectures themselves: reproducible, and exportable except where they are meant not to be."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree

from architectures import ARCHITECTURES, REFUSED


def export(name: str) -> torch.export.ExportedProgram:
    model, inputs = ARCHITECTURES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations while it traces
        return torch.export.export(model, inputs, strict=False)


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
def test_torch_can_export_it(name):
    assert export(name).graph_signature.user_outputs


@pytest.mark.parametrize("name", REFUSED)
def test_torch_refuses_to_export_it(name):
    with pytest.raises(GuardOnDataDependentSymNode, match="data-dependent"):
        export(name)
