from __future__ import annotations

import pytest
import torch
from support.kernels import offer
from torch import nn

from tpopt.backend.library import gemm
from tpopt.choose.candidate import Candidates, Value
from tpopt.ir.parse import parse_program

SIZES = {"a": 3, "b": 5, "i": 7, "j": 11, "k": 13, "l": 2}


def rand(axes: str, seed: int) -> torch.Tensor:
    return torch.randn([SIZES[a] for a in axes], generator=torch.Generator().manual_seed(seed))


EINSUMS = [
    *("ik,kj->ij", "ki,kj->ij", "ik,jk->ji", "k,k->", "k,kj->j", "ik,k->i"),
    *("aik,akj->aij", "aki,ajk->aji", "iak,jak->aij", "aik,ak->ai", "ak,ak->a", "abik,abkj->abij", "abik,bakj->iajb"),
    *("aikl,aklj->aij", "lik,kjl->ij", "abi,abj->ij"),
]


@pytest.mark.parametrize("equation", EINSUMS)
def test_every_order_of_the_axes_is_one_batched_product(equation: str):
    x, y = equation.partition("->")[0].split(",")
    made = offer(lambda x, y: torch.einsum(equation, x, y), rand(x, 0), rand(y, 1))
    (candidate,) = made.named("gemm")
    assert candidate.needs == (Value("args_0"), Value("args_1"))
    torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


def test_a_product_with_itself_needs_its_operand_once():
    made = offer(lambda x: x @ x.transpose(1, 2), rand("aik", 0))
    (candidate,) = made.named("gemm")
    assert candidate.needs == (Value("args_0"),)
    torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_other_types_are_multiplied_too(dtype: torch.dtype):
    x, y = (torch.randn(3, 5, 5, dtype=dtype) for _ in range(2))
    made = offer(lambda x, y: x @ y, x, y)
    (candidate,) = made.named("gemm")
    torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("x", "y"), [((1, 1, 4, 3), (1, 5, 3, 2)), ((1, 5, 4, 3), (1, 5, 3, 2)), ((1, 3), (3, 1))])
def test_an_axis_of_extent_one_is_no_obstacle(x: tuple[int, ...], y: tuple[int, ...]):
    made = offer(lambda x, y: x @ y, torch.randn(x), torch.randn(y))
    (candidate,) = made.named("gemm")
    torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


def test_a_loop_that_reads_neither_operand_is_refused():
    text = """program p(x: f32[7,3], y: f32[3,5])
    z: f32[7,5,2] = L[i:7,j:5,q:2] sum[k:3]{ x[i,k] * y[k,j] }
    return z"""
    found = Candidates()
    gemm.candidates(parse_program(text), found)
    assert [(r.name, r.reason) for r in found.refused] == [("z:bmm", "a loop reads neither operand")]


def test_a_plain_weight_is_for_the_packed_product():
    assert offer(lambda m, x: m(x), rand("ik", 0), parts=(nn.Linear(13, 2),)).named("gemm") == []


class Experts(nn.Module):
    """A matrix for each of several experts or frequencies."""

    def __init__(self, axes: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.w = nn.Parameter(rand(axes, 1).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("equation", ["bak,akj->baj", "bkij,klij->blij", "ak,kja->ja"])
def test_weights_in_a_batch_are_packed_once(equation: str, dtype: torch.dtype):
    x, w = equation.partition("->")[0].split(",")
    made = offer(lambda m, x: torch.einsum(equation, x, m.w), rand(x, 0).to(dtype), parts=(Experts(w, dtype),))
    (candidate,) = made.named("gemm")
    assert candidate.needs == (Value("args_0"),)
    torch.testing.assert_close(made.run(candidate), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


WINDOWS = {
    "a diagonal": (lambda x, y: torch.einsum("aa,ab->b", x, y), (7, 7), (7, 4)),
    "a band": (lambda x, y: torch.einsum("bhnd,bhndw->bhnw", x, y.unfold(2, 5, 1)), (2, 3, 7, 4), (2, 3, 11, 4)),
    "a dilated band": (
        lambda x, y: torch.einsum("hnw,hndw->hnd", x, y.unfold(1, 7, 1)[..., ::3]),
        (3, 5, 3),
        (3, 11, 4),
    ),
    "windows as rows": (lambda x, y: torch.einsum("nw,wk->nk", x.unfold(0, 3, 2), y), (9,), (3, 5)),
    "heads in one axis": (
        lambda x, y: x.view(5, 3, 4).transpose(0, 1) @ y.view(7, 3, 4).permute(1, 2, 0),
        (5, 12),
        (7, 12),
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_operands_may_be_read_in_windows(name: str):
    function, x, y = WINDOWS[name]
    made = offer(function, torch.randn(x), torch.randn(y))
    (candidate,) = made.named("gemm")
    values = {c.produces[0].name: made.run(c) for c in made.named("view")}
    torch.testing.assert_close(made.run(candidate, **values), made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_batch_of_too_many_products_is_copied_unless_its_windows_overlap(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gemm, "MAX_CALLS", 1)
    function, x, y = WINDOWS[name]
    made = offer(function, torch.randn(x), torch.randn(y))
    (candidate,) = made.named("gemm")
    with torch.profiler.profile() as seen:
        found = made.run(candidate)
    torch.testing.assert_close(found, made.expected(), rtol=2e-5, atol=2e-5, check_stride=False)
    products = sum(event.count for event in seen.key_averages() if event.key == "aten::bmm")
    assert products == {"a band": 6, "a dilated band": 3, "heads in one axis": 1}.get(name, 0)


def test_a_band_is_not_copied():
    function, x, y = WINDOWS["a dilated band"]
    made = offer(function, torch.randn(x), torch.randn(y))
    (candidate,) = made.named("gemm")
    with torch.profiler.profile() as seen:
        made.run(candidate)
    names = {event.key for event in seen.key_averages()}
    assert "aten::bmm" in names
    assert not {"aten::clone", "aten::copy_", "aten::contiguous"} & names


def test_a_guarded_operand_is_refused():
    text = """program p(x: f32[7], y: f32[3])
    z: f32[7] = L[i:7] sum[k:3]{ select(1 <= i + k < 8, x[i+k-1], 0.0) * y[k] }
    return z"""
    found = Candidates()
    gemm.candidates(parse_program(text), found)
    assert [r.reason for r in found.refused] == ["an operand is not read at affine indices without guards"]
