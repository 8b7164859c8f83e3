"""The first stage at which two runs part."""

from __future__ import annotations

import pytest
import torch
from verify.models import example, program, stages_of

from tpopt.ir.parse import parse_program
from tpopt.ir.to_torch import to_torch
from tpopt.verify import first_divergence


def streams(change: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The program's values in double, and in float with one stage changed on the way."""
    truth = stages_of(to_torch(program(), dtype=torch.float64))(*example())
    stages = "\n".join(str(program()).splitlines()).replace(*change.split(" => "))
    wrong = parse_program(stages)
    run = to_torch(wrong.with_stages(wrong.stages, constants=program().constants))
    return truth, stages_of(run)(*example())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("tanh(h[i,j]) => tanh(h[i,j] * 1.0001)", "t"),
        ("t[i,j] - m[i] => t[i,j] - m[3-i]", "y"),
        ("e[i,k] * w => e[i,k] * 1.01 * w", "h"),
    ],
)
def test_the_changed_stage_is_named(change: str, name: str):
    found = first_divergence(program(), *streams(change))
    assert found is not None
    assert (found.name, found.l2_rel > found.limit) == (name, True)


def test_runs_that_agree_have_no_divergence():
    assert first_divergence(program(), *streams("program net => program net")) is None


def test_lines_and_module_are_told():
    found = first_divergence(program(), *streams("e[i,k] * w => e[i,k] * 1.01 * w"))
    assert str(found).startswith("stage h (net.py:7 h = e @ self.w, encoder): relative L2 error ")


def test_an_invented_nan_is_a_divergence():
    truth, values = streams("program net => program net")
    values["t"][0, 0] = float("nan")
    found = first_divergence(program(), truth, values)
    assert found is not None
    assert (found.name, found.invented) == ("t", 1)


def test_what_a_baseline_shows_too_is_in_order():
    truth, values = streams("tanh(h[i,j]) => tanh(h[i,j] * 1.0001)")
    found = first_divergence(program(), truth, values, baseline=values)
    assert found is None


def test_numpy_streams_and_missing_tensors_are_taken():
    truth, values = streams("tanh(h[i,j]) => tanh(h[i,j] * 1.0001)")
    del truth["t"]
    found = first_divergence(
        program(), {k: v.numpy() for k, v in truth.items()}, {k: v.numpy() for k, v in values.items()}
    )
    assert found is not None
    assert found.name == "m"
