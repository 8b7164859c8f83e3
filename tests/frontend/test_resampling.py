from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table, texts
from torch import randn

AUTO = torch.export.Dim.AUTO
IMAGES = (2, 3, 13, 11)
MODES = [
    ("nearest", None),
    ("nearest-exact", None),
    ("bilinear", False),
    ("bilinear", True),
    ("bicubic", False),
    ("bicubic", True),
]
SIZES = [
    {"size": (5, 7)},
    {"size": (26, 33)},
    {"size": (13, 4)},
    {"size": (1, 1)},
    {"scale_factor": (2, 3.0)},
    {"scale_factor": 1.7},
    {"scale_factor": (0.5, 0.3)},
    {"scale_factor": 2**0.5},
    {"scale_factor": (1.7, 0.37), "recompute_scale_factor": True},
]


@pytest.mark.parametrize(("mode", "align"), MODES)
def test_interpolation_to_given_extents(mode, align):
    table = {str(k): lambda x, k=k: F.interpolate(x, mode=mode, align_corners=align, **k) for k in SIZES}
    check_table(table, randn(IMAGES))


@pytest.mark.parametrize(
    "settings", [{"size": (26, 33)}, {"scale_factor": 2}, {"scale_factor": 0.5}, {"scale_factor": 1.5}], ids=str
)
@pytest.mark.parametrize(("mode", "align"), MODES)
def test_interpolation_of_run_time_extents(mode, align, settings):
    def resized(x):
        return F.interpolate(x, mode=mode, align_corners=align, **settings)

    check_lowering(resized, randn(IMAGES), dynamic=True, also=[(randn(3, 2, 9, 6),)])


@pytest.mark.parametrize(("mode", "align"), MODES)
def test_interpolation_to_run_time_extents(mode, align):
    def resized(x, y):
        return F.interpolate(x, mode=mode, align_corners=align, size=y.shape[2:])

    check_lowering(
        resized, randn(IMAGES), randn(1, 1, 20, 3), dynamic=True, also=[(randn(3, 2, 9, 6), randn(1, 1, 11, 14))]
    )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation_along_lines_and_in_volumes(mode):
    lines = {str(k): lambda x, k=k: F.interpolate(x, mode=mode, **k) for k in ({"size": 7}, {"scale_factor": 2.5})}
    check_table(lines, randn(2, 3, 5))
    mode = "trilinear" if mode == "linear" else mode
    volumes = {
        str(k): lambda x, k=k: F.interpolate(x, mode=mode, **k) for k in ({"size": (7, 3, 5)}, {"scale_factor": 2})
    }
    check_table(volumes, randn(2, 3, 4, 5, 3))


def test_element_types():
    check_lowering(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), randn(IMAGES).bfloat16())
    check_lowering(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), randn(IMAGES).double())
    check_lowering(lambda x: F.interpolate(x, scale_factor=2), torch.randint(0, 200, IMAGES, dtype=torch.uint8))


def test_whole_factors_are_index_maps():
    traced = check_lowering(lambda x: F.interpolate(x, scale_factor=(2, 0.5)), randn(2, 3, 7, 10))
    assert texts(traced) == ["L[i0:2,i1:3,i2:14,i3:5] args_0[i0,i1,i2//2,2*i3]"]


def test_positions_that_torch_rounds_come_from_a_table():
    traced = check_lowering(lambda x: F.interpolate(x, size=(82, 94)), randn(1, 1, 2, 2))
    assert [w.name for w in traced.algebra.weights] == [
        "upsample_nearest2d.positions",
        "upsample_nearest2d.positions_1",
    ]
    assert list(traced.algebra.constants["upsample_nearest2d.positions"][39:43, 0]) == [0, 0, 0, 1]


def _whole(function, target, **options):
    traced = check_lowering(function, randn(IMAGES), opaque=[target], **options)
    return list(traced.reasons.values())


def test_what_depends_on_rounding_stays_whole():
    reason = "nearest interpolation of a run-time extent by 41.0: the positions depend on rounding"
    extents = ({2: AUTO, 3: AUTO},)
    assert _whole(lambda x: F.interpolate(x, scale_factor=41), "aten.upsample_nearest2d.vec", dynamic=extents) == [
        reason
    ]


def test_filters_against_aliasing_stay_whole():
    target = "aten._upsample_bilinear2d_aa.vec"
    assert len(_whole(lambda x: F.interpolate(x, size=(5, 7), mode="bilinear", antialias=True), target)) == 1


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_sampling_at_given_points(mode, padding, align):
    def sampled(x, grid):
        return F.grid_sample(x, grid, mode, padding, align)

    dynamic, other = ({0: AUTO, 2: AUTO, 3: AUTO}, {0: AUTO, 1: AUTO, 2: AUTO}), (randn(5, 3, 7, 9), randn(5, 4, 3, 2))
    check_lowering(sampled, randn(IMAGES), randn(2, 7, 5, 2) * 2, dynamic=dynamic, also=[other])
    check_lowering(sampled, randn(2, 3, 1, 4), randn(2, 7, 5, 2))
    if mode != "bicubic":
        check_lowering(sampled, randn(2, 3, 5, 4, 3), randn(2, 7, 3, 5, 3))


@pytest.mark.parametrize("align", [False, True])
def test_grids_of_affine_maps(align):
    check_lowering(lambda t: F.affine_grid(t, (2, 3, 5, 7), align_corners=align), randn(2, 2, 3))
    check_lowering(lambda t: F.affine_grid(t, (2, 3, 5, 7, 4), align_corners=align), randn(2, 3, 4))
    transformed = {
        "spatial transformer": lambda x, t: F.grid_sample(x, F.affine_grid(t, x.shape, align), align_corners=align)
    }
    check_table(transformed, randn(IMAGES), randn(2, 2, 3))


def test_grids_of_one_cell():
    check_lowering(lambda t: F.affine_grid(t, (2, 3, 1, 7), align_corners=False), randn(2, 2, 3))
