"""Loops run otherwise compute the same, and what does not fit is refused by its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.generated import program

from tpopt.backend.generated.decisions import Decision, decode, encode
from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.request import KernelRequest
from tpopt.errors import KernelUnsupported

CASES = {
    "product": (
        "y: f32[13,37] = L[i:13,j:37] sum[k:31]{ x[i,k] * w[j,k] } + b[j]",
        {"x": (13, 31), "w": (37, 31), "b": (37,)},
    ),
    "window": (
        "y: f32[5,11,17] = L[c:5,h:11,v:17] sum[a:3,b:3]{ x[c,h+a,v+b] * w[c,a,b] }",
        {"x": (5, 13, 19), "w": (5, 3, 3)},
    ),
    "rows": ("m: f32[9] = L[i:9] max[k:45]{ x[i,k] }\ny: f32[9,45] = L[i:9,j:45] exp(x[i,j] - m[i])", {"x": (9, 45)}),
    "points": ("y: f32[7,29] = L[i:7,j:29] tanh(x[i,j]) * 2.0", {"x": (7, 29)}),
}


def request(name: str, threads: int = 1) -> tuple[KernelRequest, list[torch.Tensor]]:
    body, shapes = CASES[name]
    generator = torch.Generator().manual_seed(0)
    inputs = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
    fixed = tuple(n for n, key in enumerate(inputs) if key == "w")
    return KernelRequest.of(program(body, "y", **inputs), fixed, Processor(threads=threads)), list(inputs.values())


def result(asked: KernelRequest, inputs: list[torch.Tensor]) -> torch.Tensor:
    kernel = GeneratedKernel(asked, {n: inputs[n] for n in asked.constants})
    return kernel(*(t for n, t in enumerate(inputs) if n not in asked.constants))


@pytest.mark.parametrize("name", CASES)
def test_any_point_of_the_space_computes_the_same(name: str):
    asked, inputs = request(name)
    wanted = result(asked, inputs)
    points = asked.space.sample(8, seed=1)
    assert len(set(points)) == 8
    for point in points[1:]:
        found = result(replace(asked, decisions=encode(point)), inputs)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_schedule_is_a_point_of_the_space():
    asked, _ = request("product", threads=2)
    (start,) = asked.space.sample(1, seed=0)
    assert asked.space.fits(start)
    again = replace(asked, decisions=encode(start)).plan
    assert [(n.order, n.sweeps, n.parallel) for n in again.nests] == [
        (n.order, n.sweeps, n.parallel) for n in asked.plan.nests
    ]


def test_points_are_the_same_for_the_same_seed_and_survive_as_text():
    asked, _ = request("window")
    points = asked.space.sample(6, seed=3)
    assert points == request("window")[0].space.sample(6, seed=3)
    assert [decode(encode(p)) for p in points] == points


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (Decision(1, 16, (1,), (0, 1), 0), "it has 2 loops"),
        (Decision(1, 16, (1, 1), (0, 0), 0), "it has 2 loops"),
        (Decision(1, 12, (1, 1), (0, 1), 0), "power of two"),
        (Decision(2, 16, (1, 1), (0, 1), 0), "along a loop"),
        (Decision(1, 16, (14, 1), (0, 1), 0), "i0 has 13 points"),
        (Decision(1, 16, (1, 3), (0, 1), 0), "i1 has 37 points"),
        (Decision(-1, 1, (12, 12), (0, 1), 0), "side by side"),
        (Decision(1, 16, (1, 1), (0, 1), 3), "in parallel"),
        (Decision(1, 16, (1, 1), (0, 1), 0, 2), "no reduced iterator"),
    ],
)
def test_what_does_not_fit_is_refused(decision: Decision, reason: str):
    asked, _ = request("product")
    with pytest.raises(KernelUnsupported, match=reason):
        replace(asked, decisions=encode([decision])).planned()


@pytest.mark.parametrize("text", ["", "[", "[1]", '[[1,2,"x",[],0,0]]', "[[1,2]]", '{"a": 1}', "null"])
def test_other_text_is_refused(text: str):
    with pytest.raises(KernelUnsupported, match="says no loops"):
        decode(text)
