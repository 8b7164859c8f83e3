from __future__ import annotations

from typing import Any

import pytest
import torch
from support.kernels import Wrapped
from torch import nn

from tpopt.choose.candidate import CHANNELS_LAST, Candidate, Candidates, Value
from tpopt.choose.layouts import layout_candidates
from tpopt.choose.originals import original_candidates
from tpopt.frontend.trace import trace

X = torch.randn(2, 6, 8, 8)


def candidates(function: Any, *parts: nn.Module, x: torch.Tensor = X, device: str = "cpu") -> list[Candidate]:
    found = Candidates()
    original_candidates(trace(Wrapped(function, *parts).eval(), (x,)).original, found, device)
    return found.admitted


def described(found: list[Candidate]) -> list[str]:
    return [f"{c.name} ({c.kind}): {' '.join(map(str, c.needs))} -> {' '.join(map(str, c.produces))}" for c in found]


def test_each_traced_operator_is_a_candidate_in_program_order():
    found = candidates(lambda m, x: m(x.view(2, -1)).softmax(-1), nn.Linear(384, 5))
    assert described(found) == [
        "view:original (view): args_0 -> view",
        "linear:original (original): view -> linear",
        "softmax:original (original): linear -> softmax",
    ]


def test_what_keeps_channels_last_is_offered_in_it():
    found = candidates(lambda x: nn.functional.max_pool2d(x.relu(), 2))
    assert described(found) == [
        "relu:original (original): args_0 -> relu",
        "relu:channels-last (original): args_0@channels_last -> relu@channels_last",
        "max_pool2d:original (original): relu -> max_pool2d",
        "max_pool2d:channels-last (original): relu@channels_last -> max_pool2d@channels_last",
    ]


@pytest.mark.parametrize(
    "function",
    [lambda x: x.cumsum(1), lambda x: x.flatten(1) * 2, lambda x: x.softmax(1)],
    ids=["an operator that does not", "a matrix", "another operator that does not"],
)
def test_what_does_not_keep_channels_last_is_not(function: Any):
    assert {v.layout for c in candidates(function) for v in (*c.needs, *c.produces)} == {""}


def test_integers_are_no_images():
    found = candidates(lambda x: x + x, x=torch.ones(1, 2, 3, 4, dtype=torch.int64))
    assert [c.name for c in found] == ["add:original"]


def test_weights_are_no_needs():
    (linear,) = candidates(lambda m, x: m(x), nn.Linear(8, 5))
    assert linear.needs == (Value("args_0"),)


def test_every_result_of_an_operator_is_produced():
    (topk,) = candidates(lambda x: torch.topk(x, 3))
    assert [v.name for v in topk.produces] == ["topk.0", "topk.1"]


def test_equal_work_has_one_key_and_other_work_another():
    found = candidates(lambda x: (x.relu(), (x * 2).relu(), x[:1].relu(), x.double().relu()))
    keys = [c.key for c in found if c.stage.target == "aten.relu.default" and c.name.endswith(":original")]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    last = next(c.key for c in found if c.name == "relu:channels-last")
    assert last == f"{keys[0]}@{CHANNELS_LAST}"


def test_both_conversions_are_offered_for_whatever_somebody_wants_in_channels_last():
    found = Candidates()
    traced = trace(Wrapped(lambda x: x.relu().cumsum(1)), (X,)).original
    original_candidates(traced, found)
    before = len(found.admitted)
    layout_candidates(dict(traced.tensors), found)
    assert described(found.admitted[before:]) == [
        "args_0:to-channels_last (layout): args_0 -> args_0@channels_last",
        "args_0:to-row-major (layout): args_0@channels_last -> args_0",
        "relu:to-channels_last (layout): relu -> relu@channels_last",
        "relu:to-row-major (layout): relu@channels_last -> relu",
    ]


@pytest.mark.parametrize(("device", "layouts"), [("cpu", [""]), ("cuda", ["", CHANNELS_LAST])])
def test_a_convolution_itself_keeps_channels_last_on_cuda_alone(device: str, layouts: list[str]):
    found = candidates(lambda m, x: m(x), nn.Conv2d(6, 4, 3), device=device)
    assert [c.produces[0].layout for c in found] == layouts
