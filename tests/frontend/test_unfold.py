from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, texts
from torch import randn

BLOCKS = {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (2, 1), "stride": (2, 3)}


@pytest.mark.parametrize("dynamic", [False, True])
def test_blocks_as_columns_and_back(dynamic):
    x = randn(2, 3, 13, 11)
    check_lowering(lambda x: F.unfold(x, **BLOCKS), x, dynamic=dynamic)
    check_lowering(lambda x: F.fold(x, (13, 11), **BLOCKS), randn(2, 18, 32), dynamic=dynamic)


def test_blocks_of_one_image():
    check_lowering(lambda x: F.unfold(x, 3), randn(3, 13, 11))
    check_lowering(lambda x: F.fold(x, (13, 11), (3, 2), stride=(3, 1)), randn(18, 40))


def test_folding_gathers():
    traced = check_lowering(lambda x: F.fold(x, (8, 6), 2, stride=2), randn(2, 12, 12))
    assert texts(traced) == ["L[i0:2,i1:3,i2:8,i3:6] args_0[i0,4*i1+2*(i2%2)+i3%2,3*(i2//2)+i3//2]"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_windows_as_a_view(dynamic):
    check_lowering(lambda x: x.unfold(2, 5, 3), randn(2, 3, 13, 11), dynamic=dynamic)
    check_lowering(lambda x: x.unfold(-1, 2, 4), randn(3, 13), dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [False, True])
def test_shuffles(dynamic):
    check_lowering(lambda x: F.pixel_shuffle(x, 2), randn(2, 12, 3, 5), dynamic=dynamic)
    check_lowering(lambda x: F.pixel_unshuffle(x, 3), randn(2, 7, 6, 9), dynamic=dynamic)
    check_lowering(lambda x: F.channel_shuffle(x, 3), randn(2, 6, 5), dynamic=dynamic)
    check_lowering(lambda x: torch.native_channel_shuffle(x, 2), randn(2, 6, 5, 3))
