"""Loops that run through memory as one are one."""

from __future__ import annotations

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.merge import merged


def loops(body: str, strides: dict | None = None, **inputs: torch.Tensor) -> list[str]:
    (stage,) = program(body, "y", **inputs).stages
    return [i.name for i in merged(stage, strides or {})[0].loops]


X = torch.randn(1, 3, 4, 5)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y: f32[1,3,4,5] = L[n:1,c:3,h:4,w:5] exp(x[n,c,h,w])", ["c_h_w"]),
        ("y: f32[1,3,4,5] = L[n:1,c:3,h:4,w:5] x[0,c,h,w] + b[c]", ["c", "h_w"]),
        ("y: f32[3,4,5] = L[c:3,h:4,w:5] select(1 <= w < 4, x[0,c,h,w], 0.0)", ["c_h", "w"]),
        ("y: f32[4,5] = L[h:4,w:5] sum[c:3]{ x[0,c,h,w] }", ["h_w"]),
        ("y: f32[3] = L[c:3] sum[h:4,w:5]{ x[0,c,h,w] }", ["c"]),
        ("y: f32[4,3,5] = L[h:4,c:3,w:5] x[0,c,h,w]", ["h", "c", "w"]),
        ("y: f32[3,4,4] = L[c:3,h:4,w:4] x[0,c,h,w]", ["c_h", "w"]),
        ("y: f32[3,5,5] = L[c:3,h:5,w:5] x[0,c,0,w] + x[0,c,0,h]", ["c", "h", "w"]),
    ],
)
def test_loops_are_joined_where_every_tensor_agrees(body: str, left: list[str]):
    assert loops(body, x=X, **({"b": torch.randn(3)} if "b[" in body else {})) == left


def test_a_reduction_over_two_axes_becomes_one():
    (stage,) = program("y: f32[3] = L[c:3] sum[h:4,w:5]{ x[0,c,h,w] }", "y", x=X).stages
    (reduce,) = (t for t in merged(stage, {})[0].bodies)
    assert [(i.name, i.extent) for i in reduce.iters] == [("h_w", 20)]


def test_a_gap_in_memory_keeps_loops_apart():
    body = "y: f32[3,4] = L[i:3,j:4] x[i,j] * 2.0"
    x = torch.randn(3, 4)
    assert loops(body, {"x": (4, 1)}, x=x) == ["i_j"]
    assert loops(body, {"x": (8, 1)}, x=x) == ["i", "j"]
    assert loops(body, {"x": (1, 3)}, x=x) == ["i", "j"]


def test_a_tensor_that_is_read_in_two_ways_keeps_its_axes():
    x = torch.randn(4, 4)
    body = "y: f32[4,4] = L[i:4,j:4] x[i,j] + x[j,i]"
    assert loops(body, x=x) == ["i", "j"]
    assert torch.equal(run(body, x=x)[0], x + x.t())


def test_a_tensor_of_indices_keeps_its_axes():
    x, k = torch.randn(6), torch.randint(6, (3, 4))
    body = "y: f32[3,4] = L[i:3,j:4] x[k[i,j]{0:6}] * f32(k[i,j])"
    assert torch.equal(run(body, x=x, k=k)[0], x[k] * k)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 1), (2, 1, 9), (3, 5, 7), (2, 16, 17)])
def test_values_stay_what_they_were(shape: tuple[int, ...]):
    x, y = torch.randn(shape), torch.randn(shape[1:])
    a, b, c = shape
    body = f"z: f32[{a},{b},{c}] = L[i:{a},j:{b},k:{c}] x[i,j,k] * y[j,k] + 1.0"
    torch.testing.assert_close(run(body, "z", x=x, y=y)[0], x * y + 1.0)
