"""A plan called under another number of threads than it was made for: right, and noticed once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support.small import Perceptron, Residual, Transformer

import tpopt

MODELS = {
    "convolutions": (Residual, torch.randn(2, 3, 16, 16)),
    "linear layers": (Perceptron, torch.randn(64, 16)),
    "attention": (Transformer, torch.randint(31, (1, 12))),
}


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def compiled(name: str, threads: int, tmp_path: Path) -> tuple[tpopt.CompiledModel, torch.Tensor]:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    build, x = MODELS[name]
    made = tpopt.compile(build().eval(), x, choice="model", gate=False, verify=False, records=tmp_path / "r.json")
    assert made.report.result.status == "optimized", made.report.result.reason
    return made, x


@pytest.mark.parametrize("threads", [(1, 2), (2, 1), (1, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_another_number_of_threads_computes_the_same(name: str, threads: tuple[int, int], tmp_path, caplog):
    made, x = compiled(name, threads[0], tmp_path)
    torch.set_num_threads(threads[1])
    with caplog.at_level(logging.WARNING, logger="tpopt"), torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(made(x), made.original(x), rtol=2e-5, atol=2e-5)
    (said,) = [r.getMessage() for r in caplog.records if r.name == "tpopt"]
    assert said.startswith(f"compiled with torch.get_num_threads() = {threads[0]} and called with {threads[1]}: ")


def test_the_same_number_of_threads_is_not_mentioned_not_even_from_new_threads(tmp_path, caplog):
    made, x = compiled("convolutions", 2, tmp_path)
    with caplog.at_level(logging.WARNING, logger="tpopt"), ThreadPoolExecutor(4) as pool:
        list(pool.map(made, [x] * 8))
    assert [r.getMessage() for r in caplog.records if r.name == "tpopt"] == []


def test_a_plan_for_new_shapes_is_made_for_the_threads_of_that_call(tmp_path, caplog):
    made, _ = compiled("convolutions", 1, tmp_path)
    torch.set_num_threads(2)
    with caplog.at_level(logging.WARNING, logger="tpopt"):
        made(torch.randn(3, 3, 16, 16))
    assert [s.threads for s in made._run.specializations] == [1, 2]
    assert [r.getMessage() for r in caplog.records if r.name == "tpopt"] == []
