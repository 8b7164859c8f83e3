"""Plans whose kernels read what a library left transposed, and those that take their place in the last race."""

from __future__ import annotations

import time

import torch
from torch import nn

from tpopt._compile.attempt import Attempt
from tpopt._compile.build import build
from tpopt._compile.strides import REASON, without_transposed
from tpopt.backend.generated.candidates import is_generated
from tpopt.choose.cover import Choice
from tpopt.options import Options


class Pointwise(nn.Module):
    """A product over the channels of a sequence, whose result a library leaves with its channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(channels, 64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu().softmax(-1)


def built(channels: int, length: int) -> tuple[Attempt, Choice | None]:
    """A model chosen by prices alone, and its plan in order."""
    inputs = (torch.randn(2, channels, length),)
    attempt = Attempt(
        Pointwise(channels).eval(), inputs, {}, None, Options(choice="model", gate=False), time.perf_counter()
    )
    made = build(attempt)
    return attempt, without_transposed(attempt, made.choice, made.specialization, made.state)


def test_a_generated_kernel_does_not_read_what_a_library_left_transposed():
    attempt, again = built(64, 1024)
    assert attempt.choice is not None
    assert [c.name for c in attempt.choice.solution.picked] == ["conv1d:linear(conv1d)", "softmax:generated~2"]
    assert again is not None
    made = {v.name for c in again.solution.picked if not is_generated(c) for v in c.produces}
    assert not any(v.name in made for c in again.solution.picked if is_generated(c) for v in c.needs)
    assert {r.name for r in again.found.refused if r.reason == REASON} >= {"conv1d:linear(conv1d)"}
    assert not any(r.reason == REASON for r in attempt.choice.found.refused)


def test_a_plan_that_reads_in_order_has_no_rival():
    attempt, again = built(6, 2048)
    assert attempt.choice is not None
    assert all(map(is_generated, attempt.choice.solution.picked))
    assert again is None


class Heads(nn.Module):
    """What a detector returns: its channels last, and asked for in that order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).contiguous()


def test_a_result_is_written_in_order_rather_than_copied():
    inputs = (torch.randn(1, 32, 24, 24),)
    attempt = Attempt(Heads().eval(), inputs, {}, None, Options(choice="model", gate=False), time.perf_counter())
    made = build(attempt)
    assert attempt.choice is not None
    assert not any(map(is_generated, attempt.choice.solution.picked))
    again = without_transposed(attempt, made.choice, made.specialization, made.state)
    assert again is not None
    assert [c.name for c in again.solution.picked] == ["permute:generated"]
