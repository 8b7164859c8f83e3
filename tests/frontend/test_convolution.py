from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table, texts
from torch import randn

GRID = list(itertools.product((1, 2, 3), (0, 2), (1, 2, 3)))
AUTO = torch.export.Dim.AUTO


@pytest.mark.parametrize(("stride", "padding", "dilation"), GRID)
def test_convolution_in_one_dimension(stride, padding, dilation):
    table = {
        f"groups {g}": lambda x, w, b, g=g: F.conv1d(x, w[:, : 3 // g], b, stride, padding, dilation, g) for g in (1, 3)
    }
    check_table(table, randn(2, 3, 13), randn(6, 3, 4), randn(6))


@pytest.mark.parametrize(("stride", "padding", "dilation"), GRID)
def test_transposed_convolution_in_one_dimension(stride, padding, dilation):
    def one(taps, groups, extra):
        return lambda x, w, b: F.conv_transpose1d(
            x, w[..., :taps], b[: 5 * groups], stride, padding, extra, groups, dilation
        )

    choices = itertools.product((1, 3, 4), (1, 3), {0, max(stride, dilation) - 1})
    check_table({f"taps, groups, extra {c}": one(*c) for c in choices}, randn(2, 3, 7), randn(3, 5, 4), randn(15))


PLANES = [
    {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)},
    {"stride": 2, "padding": 1, "dilation": (2, 3), "groups": 3, "output_padding": 1},
    {"stride": (1, 2), "dilation": (2, 3), "groups": 3},
    {"stride": 4, "padding": 4, "output_padding": 3},
]


@pytest.mark.parametrize("settings", PLANES, ids=str)
def test_transposed_convolution_in_the_plane(settings):
    def deconvolve(x, w, b):
        return F.conv_transpose2d(x, w, b, **settings)

    weight = randn(3, 5, 9, 7) if settings["stride"] == 4 else randn(3, 5, 3, 2)
    bias, dynamic = randn(5 * settings.get("groups", 1)), ({0: AUTO, 2: AUTO, 3: AUTO}, None, None)
    check_lowering(deconvolve, randn(2, 3, 7, 5), weight, bias)
    other = (randn(5, 3, 11, 6), weight, bias)
    check_lowering(deconvolve, randn(2, 3, 7, 5), weight, bias, dynamic=dynamic, also=[other])


@pytest.mark.parametrize("groups", [1, 3])
def test_convolution_in_the_plane_and_in_space(groups):
    dynamic = ({0: AUTO, 2: AUTO, 3: AUTO}, None, None)
    weight = randn(6, 3 // groups, 5, 2)

    def convolve(x, w, b):
        return F.conv2d(x, w, b, (2, 1), (3, 0), (1, 2), groups)

    other = (randn(3, 3, 7, 17), weight, randn(6))
    check_lowering(convolve, randn(2, 3, 11, 13), weight, randn(6), dynamic=dynamic, also=[other])
    volume = randn(6, 3 // groups, 3, 2, 1)
    check_lowering(lambda x, w: F.conv3d(x, w, None, (1, 2, 3), 1, (2, 1, 1), groups), randn(2, 3, 7, 5, 11), volume)


def test_depthwise_convolution_sums_over_taps_only():
    traced = check_lowering(lambda x, w: F.conv2d(x, w, groups=3), randn(2, 3, 11, 13), randn(3, 1, 3, 2))
    assert texts(traced)[0].endswith("sum[r0:3,r1:2]{ args_0[i0,i1,i2+r0,i3+r1] * args_1[i1,0,r0,r1] }")


@pytest.mark.parametrize("taps", [2, 3, 4, 5])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name(padding, taps):
    def convolve(x, w):
        return F.conv2d(x, w, padding=padding, dilation=(1, 3))

    check_lowering(convolve, randn(2, 3, 13, 17), randn(5, 3, taps, taps), dynamic=({2: AUTO}, None))
    check_lowering(lambda x, w: F.conv1d(x, w, padding=padding, dilation=2), randn(2, 3, 13), randn(5, 3, taps))
    check_lowering(lambda x, w: F.conv3d(x, w, padding=padding), randn(2, 3, 5, 7, 6), randn(5, 3, taps, 2, 1))


def test_without_a_batch_axis():
    check_lowering(F.conv2d, randn(3, 7, 5), randn(5, 3, 3, 2), randn(5))
    check_lowering(F.conv_transpose2d, randn(3, 7, 5), randn(3, 2, 3, 2), randn(2))
    check_lowering(lambda x, w: F.conv_transpose1d(x, w, stride=3), randn(3, 7), randn(3, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.int64], ids=str)
def test_element_types(dtype):
    x, w = (randn(2, 3, 7, 5) * 4).to(dtype), (randn(5, 3, 3, 2) * 4).to(dtype)
    check_lowering(lambda x, w: F.conv2d(x, w, padding=1), x, w)


def _stages(**settings):
    weight = randn(3, 5, settings.pop("taps", 4))
    return texts(check_lowering(lambda x, w: F.conv_transpose1d(x, w, **settings), randn(2, 3, 17), weight))


def test_a_transposed_convolution_visits_the_taps_that_meet_an_input_only():
    assert _stages(stride=2, padding=1) == [
        (
            "L[i0:2,i1:5,i2:34] sum[c:3,t0:2]{ select(0 <= -t0+(i2+1)//2 < 17, args_0[i0,c,-t0+(i2+1)//2], 0.0) "
            "* args_1[c,i1,2*t0+(i2+1)%2] }"
        )
    ]


def test_a_kernel_that_the_stride_hardly_meets_is_multiplied_before_it_is_gathered():
    products, gathered = _stages(stride=5, taps=2)
    assert products == "L[i0:2,i1:5,i2:2,i3:17] sum[c:3]{ args_0[i0,c,i3] * args_1[c,i1,i2] }"
    assert "conv_transpose1d.products[i0,i1,i2%5,i2//5]" in gathered


def _backward(transposed, groups, stride, dilation, bias):
    x = randn(2, 3, 13, 11)
    weight = randn(3, 5, 3, 2) if transposed else randn(6, 3 // groups, 3, 2)
    settings = (stride, [1, 0], dilation, transposed, [0, 1] if transposed else [0, 0], groups)
    out = torch.ops.aten.convolution.default(x, weight, None, *settings)

    def backward(grad, x, w):
        sizes = [out.shape[1]] if bias else None
        return torch.ops.aten.convolution_backward.default(grad, x, w, sizes, *settings, [True, True, bias])

    return backward, randn(out.shape), x, weight


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("groups", "stride", "dilation"), [(1, [2, 3], [1, 2]), (3, [1, 2], [2, 1]), (1, [2, 2], [2, 2])]
)
def test_gradients(transposed, groups, stride, dilation):
    backward, *arguments = _backward(transposed, groups, stride, dilation, bias=True)
    check_lowering(lambda *a: backward(*a), *arguments, atol=1e-4)


def test_gradients_nobody_asks_for_are_not_computed():
    backward, *arguments = _backward(transposed=False, groups=1, stride=[1, 1], dilation=[1, 1], bias=False)
    traced = check_lowering(lambda *a: backward(*a)[1], *arguments, atol=1e-4)
    assert "convolution_backward.1" in [s.outs[0].name for s in traced.algebra.stages]
