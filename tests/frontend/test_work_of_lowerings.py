"""No lowering does more than twice the multiply-adds of the operator it stands for, at two sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering
from torch import randn
from torch.utils.flop_counter import FlopCounterMode

from tpopt.ir.work import work

SIZES = (1, 3)


def _measured(function, *arguments):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        function(*arguments)
    return counter.get_total_flops() // 2


PRODUCTS = {
    "linear": (F.linear, lambda s: (randn(2 * s, 7, 5 * s), randn(11, 5 * s), randn(11))),
    "matmul": (torch.matmul, lambda s: (randn(2, 1, 3 * s, 5), randn(7, 5, 2 * s))),
    "baddbmm": (torch.baddbmm, lambda s: (randn(2, 3, 5), randn(2, 3, 7 * s), randn(2, 7 * s, 5))),
    "einsum": (lambda *o: torch.einsum("abc,cd,bd->a", *o), lambda s: (randn(2 * s, 3, 5), randn(5, 7), randn(3, 7))),
}
GEOMETRIES = [
    {"taps": 4, "stride": 2, "padding": 1},
    {"taps": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"taps": 2, "stride": 1},
    {"taps": 4, "stride": 1},
    {"taps": 1, "stride": 3},
    {"taps": 2, "stride": 5},
    {"taps": 3, "stride": 2, "dilation": 2},
    {"taps": 3, "stride": 4, "dilation": 6, "padding": 2},
    {"taps": 9, "stride": 4, "padding": 4, "output_padding": 3},
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, size):
    function, made = PRODUCTS[name]
    arguments = made(size)
    found = work(check_lowering(function, *arguments, rtol=1e-3, atol=1e-3).algebra).macs
    assert 0 < found <= 2 * _measured(function, *arguments)


@pytest.mark.parametrize("size", SIZES)
def test_products_that_torch_does_not_count(size):
    heads = [randn(2, 3, 5 * size, 16) for _ in range(3)]
    attended = check_lowering(F.scaled_dot_product_attention, *heads).algebra
    assert work(attended).macs == 2 * (2 * 3 * 5 * size * 5 * size * 16)
    x, y, w = randn(4, 3 * size), randn(4, 5), randn(7, 3 * size, 5)
    assert work(check_lowering(F.bilinear, x, y, w).algebra).macs == 4 * 7 * 5 * (3 * size + 1)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("settings", GEOMETRIES, ids=str)
def test_transposed_convolutions(settings, rank, size):
    geometry = {k: v for k, v in settings.items() if k != "taps"}
    deconvolve = getattr(F, f"conv_transpose{rank}d")
    x, w = randn(1, 3, *[size] * rank), randn(3, 2, *[settings["taps"]] * rank)
    if geometry.get("padding", 0) * 2 >= (size - 1) * settings["stride"] + settings["taps"]:
        x = randn(1, 3, *[5] * rank)
    traced = check_lowering(lambda x, w: deconvolve(x, w, **geometry), x, w, atol=1e-4)
    assert 0 < work(traced.algebra).macs <= 2 * _measured(lambda x, w: deconvolve(x, w, **geometry), x, w)


@pytest.mark.parametrize("size", [5, 11])
def test_convolutions_and_their_gradients(size):
    x, w = randn(2, 3, size, size + 2), randn(6, 1, 3, 2)
    settings = ([2, 1], [1, 0], [1, 2], False, [0, 0], 3)
    grad = torch.ops.aten.convolution.default(x, w, None, *settings)
    forward = check_lowering(lambda x, w: F.conv2d(x, w, None, *settings[:3], 3), x, w)
    assert work(forward.algebra).macs == grad.numel() * 6

    def backward(g, x, w):
        return torch.ops.aten.convolution_backward.default(g, x, w, None, *settings, [True, True, False])

    gradients = check_lowering(backward, randn(grad.shape), x, w, atol=1e-4)
    assert work(gradients.algebra).macs <= 2 * 2 * grad.numel() * 6
