from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table, texts
from torch import randn

torch.manual_seed(20)
AUTO = torch.export.Dim.AUTO
EXTENTS = [1, 3, (5, 7), (13, 11), (17, 2)]
SLIDING = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 1), "ceil_mode": True},
    {"kernel_size": (1, 3), "stride": (3, 1)},
]
AVERAGES = [
    *SLIDING,
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": (3, 2), "stride": (2, 3), "padding": 1, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 3, "divisor_override": 5, "padding": 1, "ceil_mode": True},
]
IMAGES, VOLUMES = randn(2, 3, 13, 11), randn(2, 3, 7, 6, 9)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("settings", [*SLIDING, {"kernel_size": 3, "stride": 2, "dilation": (2, 3)}], ids=str)
def test_maxima_and_where_they_are(settings, dynamic):
    check_lowering(lambda x: F.max_pool2d(x, **settings), IMAGES, dynamic=dynamic)
    check_lowering(lambda x: F.max_pool2d(x, **settings, return_indices=True), IMAGES.round(), dynamic=dynamic)


def test_positions_are_computed_where_somebody_asks():
    traced = check_lowering(lambda x: torch.ops.aten.max_pool2d_with_indices(x, [3, 3])[0], IMAGES)
    assert texts(traced) == ["L[i0:2,i1:3,i2:4,i3:3] max[r0:3,r1:3]{ args_0[i0,i1,3*i2+r0,3*i3+r1] }"]


def test_maxima_along_lines_and_in_volumes():
    lines = {
        "plain": lambda x: F.max_pool1d(x, 3, 2, 1),
        "indices": lambda x: F.max_pool1d(x, 3, 2, return_indices=True),
    }
    check_table(lines, randn(3, 13))
    volumes = {
        "plain": lambda x: F.max_pool3d(x, 3, 2, 1),
        "indices": lambda x: F.max_pool3d(x, 2, return_indices=True),
    }
    check_table(volumes, VOLUMES)


def test_maxima_of_other_types_and_of_nothing():
    check_lowering(lambda x: F.max_pool2d(x, 3, 2, 1), IMAGES.half())
    check_lowering(lambda x: F.max_pool2d(x, 3, 2, 1), torch.randint(-9, 9, (3, 7, 7)))
    check_lowering(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), torch.full((2, 3, 7, 7), -float("inf")))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("settings", AVERAGES, ids=str)
def test_averages(settings, dynamic):
    check_lowering(lambda x: F.avg_pool2d(x, **settings), IMAGES, dynamic=dynamic)


@pytest.mark.parametrize("settings", AVERAGES, ids=str)
def test_gradients_of_averages(settings):
    out = F.avg_pool2d(IMAGES, **settings)
    names = {
        "kernel_size": 2,
        "stride": [],
        "padding": 0,
        "ceil_mode": False,
        "count_include_pad": True,
        "divisor_override": None,
    }
    given = {**names, **settings}
    taps, stride, padding = ([v] * 2 if isinstance(v, int) else list(v) for v in list(given.values())[:3])
    rest = list(given.values())[3:]
    backward = torch.ops.aten.avg_pool2d_backward.default
    check_lowering(lambda g, x: backward(g, x, taps, stride, padding, *rest), randn(out.shape), IMAGES)


def test_averages_along_lines_in_volumes_and_of_other_types():
    check_lowering(lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True), randn(2, 7, 6))
    check_lowering(lambda x: F.avg_pool3d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), VOLUMES)
    check_lowering(lambda x: F.avg_pool2d(x, 3), torch.randint(-9, 9, (3, 7, 7)))
    check_lowering(lambda x: F.avg_pool2d(x, 3), IMAGES.bfloat16())
    check_lowering(lambda x: F.lp_pool2d(x, 3, 2), IMAGES)
    check_lowering(lambda x: F.lp_pool1d(x, 2, 3), IMAGES[0])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("extents", EXTENTS, ids=str)
def test_adaptive_windows(extents, dynamic):
    adaptive = {
        "average": lambda x: F.adaptive_avg_pool2d(x, extents),
        "maximum": lambda x: F.adaptive_max_pool2d(x, extents),
        "indices": lambda x: F.adaptive_max_pool2d(x, extents, return_indices=True),
    }
    check_table(adaptive, IMAGES.round(), dynamic=dynamic)


def test_adaptive_windows_along_lines_and_in_volumes():
    check_table({"avg": lambda x: F.adaptive_avg_pool1d(x, 5), "max": lambda x: F.adaptive_max_pool1d(x, 5)}, IMAGES[0])
    extents = (2, 3, 5)
    table = {"avg": lambda x: F.adaptive_avg_pool3d(x, extents), "max": lambda x: F.adaptive_max_pool3d(x, extents)}
    check_table(table, VOLUMES)


def test_a_global_average_of_run_time_extents_is_one_plain_sum():
    traced = check_lowering(lambda x: F.adaptive_avg_pool2d(x, 1), IMAGES, dynamic=({2: AUTO, 3: AUTO},))
    form = r"sum\[r0:(\w+),r1:(\w+)\]\{ args_0\[i0,i1,\1\*i2\+r0,\2\*i3\+r1\] \} / f32\(\1 \* \2\)"
    assert re.search(form, texts(traced)[0])


@pytest.mark.parametrize("extents", EXTENTS, ids=str)
def test_gradients_of_adaptive_averages(extents):
    grad = randn(F.adaptive_avg_pool2d(IMAGES, extents).shape)
    check_lowering(torch.ops.aten._adaptive_avg_pool2d_backward.default, grad, IMAGES)


def test_gradients_of_maxima_and_unpooling():
    values, places = F.max_pool2d(IMAGES, 3, 2, 1, return_indices=True)
    backward = torch.ops.aten.max_pool2d_with_indices_backward.default
    window = ([3, 3], [2, 2], [1, 1], [1, 1], False)
    check_lowering(lambda g, x, i: backward(g, x, *window, i), randn(values.shape), IMAGES, places)
    values, places = F.max_pool2d(IMAGES, 2, return_indices=True)
    check_lowering(lambda v, i: F.max_unpool2d(v, i, 2, output_size=(13, 11)), values, places)
    values, places = F.adaptive_max_pool2d(IMAGES, 5, return_indices=True)
    check_lowering(torch.ops.aten.adaptive_max_pool2d_backward.default, randn(values.shape), IMAGES, places)
    values, places = F.max_pool3d(VOLUMES, 2, return_indices=True)
    check_lowering(lambda v, i: F.max_unpool3d(v, i, 2, output_size=(7, 6, 9)), values, places)
