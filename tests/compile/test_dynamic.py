"""Shapes that change from call to call: few compilations, and results as near to float64 as the model's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.small import Residual, Transformer
from torch import nn

import tpopt
from tpopt._compile import build
from tpopt.bench.reference import l2_rel_err, reference_outputs
from tpopt.bench.suites import load_suite

MOST_COMPILATIONS = 3
LEAST_TOLERANCE = 2e-6
LENGTHS = (8, 7, 1, 2, *range(9, 25))
PROMPTS = (128, 127, 1, 2, 3, 16, 17, 31, 32, 33, 48, 64, 65, 96, 100, 129, 160, 192, 255, 256)
BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 11, 16)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each plan that was asked for."""
    asked: list[Any] = []
    whole = build.specialize

    def spy(attempt: Any, states: Any) -> Any:
        asked.append(attempt)
        return whole(attempt, states)

    monkeypatch.setattr(build, "specialize", spy)
    return asked


def served(made: tpopt.CompiledModel, inputs: Sequence[torch.Tensor], caplog: pytest.LogCaptureFixture) -> None:
    """Every input is run by a plan, and its result is at most twice as far from float64 as the model's own."""
    assert made.report.result.status == "optimized", made.report.result.reason
    with caplog.at_level(logging.WARNING, logger="tpopt"), torch.no_grad():
        for x in inputs:
            reference, kind = reference_outputs(made.original, (x,))
            eager, ours = (l2_rel_err(call(x), reference) for call in (made.original, made))
            assert kind == "float64"
            assert ours <= max(2 * eager, LEAST_TOLERANCE), tuple(x.shape)
    assert [r.getMessage() for r in caplog.records if r.name == "tpopt"] == []  # the original runs with a warning


def tokens(words: int, lengths: Sequence[int]) -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return [torch.randint(words, (1, n), generator=drawn) for n in lengths]


def images(size: int, batches: Sequence[int]) -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return [torch.randn(n, 3, size, size, generator=drawn) for n in batches]


def seeded(build_model: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model().eval()


def test_a_gpt_at_twenty_lengths(compiled, compilations, caplog):
    given = tokens(31, LENGTHS)
    served(compiled(seeded(Transformer), given[0]), given, caplog)
    assert len(compilations) <= MOST_COMPILATIONS


def test_a_resnet_at_ten_batch_sizes_whose_second_makes_the_dimension_dynamic(compiled, compilations, caplog):
    given = images(16, BATCHES)
    served(compiled(seeded(Residual), given[0]), given, caplog)
    assert len(compilations) <= MOST_COMPILATIONS
    assert [a.args[0].shape[0] for a in compilations] == [1, 2]
    assert [len(a.traced.algebra.symbols) for a in compilations] == [0, 1]


ZOO = {
    "gpt2_prefill": lambda: tokens(50257, PROMPTS),
    "resnet18": lambda: images(224, BATCHES),
}
"""Inputs of twenty lengths, and of ten batch sizes."""


@pytest.mark.acceptance
@pytest.mark.parametrize("choice", ["model", "measured"])
@pytest.mark.parametrize("name", ZOO)
def test_models_of_the_zoo_need_few_compilations(name: str, choice: str, compiled, compilations, caplog):
    model, _ = load_suite("zoo")[name]()
    given = ZOO[name]()
    served(compiled(model, given[0], choice=choice, effort="fast"), given, caplog)
    assert len(compilations) <= MOST_COMPILATIONS
