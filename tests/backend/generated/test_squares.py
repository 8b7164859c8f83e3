"""Reads that lie apart along the vectors and side by side along another loop: registers turn a square at once."""

from __future__ import annotations

import pytest
import torch
from support.generated import program, run

from tpopt.backend.generated.kernel import GeneratedKernel
from tpopt.backend.generated.machine import Processor
from tpopt.backend.generated.plan import Nest, Sweep
from tpopt.backend.generated.request import KernelRequest

SIZES = [(16, 16), (32, 48), (17, 33), (16, 21), (31, 64), (40, 16)]
WIDE = Processor()
TEXT = "y: {t}[{m},{n}] = L[i:{m},j:{n}] x[j,i]"


def nest(body: str, processor: Processor = WIDE, **inputs: torch.Tensor) -> Nest:
    (found,) = KernelRequest.of(program(body, "y", **inputs), (), processor).plan.nests
    return found


def turns(found: Nest) -> bool:
    """Whether as many steps as lanes make a square."""
    return found.vector is not None and Sweep(1, found.sweeps[found.vector].lanes) in found.sweeps.values()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("f32", torch.float32),
        ("f64", torch.float64),
        ("i64", torch.int64),
        ("bf16", torch.bfloat16),
        ("i8", torch.int8),
    ],
)
def test_a_transpose_is_exact(name: str, dtype: torch.dtype, size: tuple[int, int], threads: int):
    m, n = size
    x = (torch.randn(n, m) * 50).to(dtype)
    text = TEXT.format(t=name, m=m, n=n)
    assert turns(nest(text, x=x))
    (y,) = run(text, threads=threads, x=x)
    assert torch.equal(y, x.t())


@pytest.mark.parametrize("size", [(16, 8), (3, 40), (40, 3), (8, 9)])
def test_what_makes_no_square_is_read_one_by_one(size: tuple[int, int]):
    m, n = size
    x = torch.randn(n, m)
    text = TEXT.format(t="f32", m=m, n=n)
    (y,) = run(text, x=x)
    assert torch.equal(y, x.t())


def test_no_square_where_there_are_too_few_points():
    assert not turns(nest(TEXT.format(t="f32", m=40, n=9), x=torch.randn(9, 40)))


def test_bool_is_read_one_by_one():
    x = torch.randn(40, 40) > 0
    text = TEXT.format(t="bool", m=40, n=40)
    assert not turns(nest(text, x=x))
    (y,) = run(text, x=x)
    assert torch.equal(y, x.t())


def test_some_reads_are_turned_and_others_are_not():
    x, z, b = torch.randn(2, 33, 20), torch.randn(2, 20, 33), torch.randn(33)
    text = "y: f32[2,20,33] = L[n:2,i:20,j:33] exp(x[n,j,i]) * z[n,i,j] + b[j] + x[n,j,0]"
    assert turns(nest(text, x=x, z=z, b=b))
    (y,) = run(text, x=x, z=z, b=b)
    torch.testing.assert_close(y, x.transpose(1, 2).exp() * z + b + x[:, :, 0][:, None], rtol=1e-6, atol=1e-6)


def test_reads_that_lie_side_by_side_along_different_loops():
    x, z = torch.randn(18, 19, 20), torch.randn(20, 18, 19)
    text = "y: f32[18,20,19] = L[a:18,b:20,c:19] x[a,c,b] + z[b,a,c] - x[a,c,b] * z[b,a,c]"
    (y,) = run(text, x=x, z=z)
    left, right = x.permute(0, 2, 1), z.permute(1, 0, 2)
    torch.testing.assert_close(y, left + right - left * right, rtol=1e-6, atol=1e-6)
    text = "y: f32[18,20,19] = L[a:18,b:20,c:19] x[a,c,b] + w[c,b,a]"
    w = torch.randn(19, 20, 18)
    (y,) = run(text, x=x, w=w)
    assert torch.equal(y, left + w.permute(2, 1, 0))


def test_a_part_of_a_tensor_is_turned_where_it_lies():
    x = torch.randn(40, 50)
    (y,) = run("y: f32[20,30] = L[i:20,j:30] x[j+3,2*i+1]", x=x)
    assert torch.equal(y, x[3:33, 1:41:2].t())
    (y,) = run("y: f32[20,30] = L[i:20,j:30] x[39-j,i+7]", x=x)
    assert torch.equal(y, x[:, 7:27].flip(0)[:30].t())


def test_a_guarded_read_is_right_where_squares_are_cut():
    x = torch.randn(40, 33)
    text = "y: f32[37,44] = L[i:37,j:44] select(2 <= i < 35, select(2 <= j < 42, x[j-2,i-2], 0.0), 0.0)"
    (y,) = run(text, x=x)
    assert torch.equal(y, torch.nn.functional.pad(x, (2, 2, 2, 2)).t())


@pytest.mark.parametrize(("name", "vector_bytes"), [("f32", 16), ("f32", 32), ("f64", 32), ("f32", 64)])
def test_squares_are_as_wide_as_vectors(name: str, vector_bytes: int):
    x = torch.randn(30, 21, dtype=torch.float64 if name == "f64" else torch.float32)
    text = TEXT.format(t=name, m=21, n=30)
    processor = Processor(vector_bytes=vector_bytes)
    found = nest(text, processor, x=x)
    assert found.vector is not None
    assert found.sweeps[found.vector].lanes == vector_bytes // x.itemsize
    assert turns(found)
    kernel = GeneratedKernel(KernelRequest.of(program(text, "y", x=x), (), processor), {})
    assert torch.equal(kernel(x), x.t())
