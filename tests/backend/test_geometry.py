from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from support.kernels import Offer, offer
from torch import nn

from tpopt.backend.library.contraction import Contraction, match_contraction
from tpopt.backend.library.geometry import Geometry, match_geometry
from tpopt.ir import Compute
from tpopt.ir.parse import parse_program

SPACE = {1: (13,), 2: (13, 11), 3: (7, 5, 11)}
DIRECT = [
    # rank, stride, padding, dilation, groups, kernel
    *product([1], [1, 3], [0, 2], [1, 2], [1, 2], [1, 4]),
    *[(2, 1, 1, 1, 1, 3), (2, 2, 0, 3, 1, 3), (2, 3, 2, 1, 6, 5), (2, 2, 2, 2, 2, 3), (2, 1, 0, 1, 1, 1)],
    *[(3, 1, 1, 1, 1, 3), (3, 2, 0, 2, 2, 2), (3, 1, 0, 1, 6, 2)],
]
COPRIME = [(2, 1), (3, 1), (2, 3), (3, 2)]
"""Strides and dilations; those with a common factor are two stages in the algebra, and so no one convolution."""
TRANSPOSED = [
    # rank, stride, padding, dilation, groups, kernel, output padding
    *((1, s, p, d, g, k, e) for (s, d), p, g, k, e in product(COPRIME, [0, 1], [1, 2], [5], [0, 1])),
    *[
        (2, 2, 1, 1, 1, 4, 0),
        (2, 4, 4, 1, 1, 9, 3),
        (1, 1, 2, 1, 1, 5, 0),
        (1, 1, 0, 3, 2, 3, 0),
        (2, 3, 1, 1, 6, 5, 2),
        (2, 1, 0, 1, 1, 1, 0),
    ],
    *[(3, 2, 1, 1, 1, 4, 0), (3, 2, 0, 1, 2, 2, 1)],
]


def convolution(rank: int, transposed: bool, outputs: int = 12, inputs: int = 6, **options: Any) -> Offer:
    torch.manual_seed(0)
    kind: Any = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    layer = kind(inputs, outputs, options.pop("kernel"), **options)
    return offer(lambda m, x: m(x), torch.randn(2, inputs, *SPACE[rank]), parts=(layer,))


def same(rank: int, *values: int) -> tuple[tuple[int, ...], ...]:
    return tuple((v,) * rank for v in values)


@pytest.mark.parametrize(("rank", "stride", "padding", "dilation", "groups", "kernel"), DIRECT)
def test_the_geometry_is_what_torch_was_given(rank, stride, padding, dilation, groups, kernel):
    made = convolution(rank, False, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    shown = dilation if kernel > 1 else 1  # one tap has no spacing
    expected = Geometry(False, *same(rank, stride, padding, shown, 0), groups)
    assert match_geometry(made.contraction()) == expected


@pytest.mark.parametrize(("rank", "stride", "padding", "dilation", "groups", "kernel", "extra"), TRANSPOSED)
def test_the_geometry_of_the_adjoint_is_what_torch_was_given(rank, stride, padding, dilation, groups, kernel, extra):
    made = convolution(
        rank,
        True,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        output_padding=extra,
    )
    expected = Geometry(True, *same(rank, stride, padding, dilation, extra), groups)
    assert match_geometry(made.contraction()) == expected


def test_every_axis_has_its_own_numbers():
    made = convolution(2, False, kernel=(3, 5), stride=(2, 1), padding=(0, 3), dilation=(1, 2))
    assert match_geometry(made.contraction()) == Geometry(False, (2, 1), (0, 3), (1, 2), (0, 0), 1)


def test_the_only_window_of_an_axis_keeps_its_stride_where_the_index_shows_it():
    made = convolution(1, False, kernel=11, stride=5, padding=0)
    assert match_geometry(made.contraction()) == Geometry(False, (5,), (0,), (1,), (0,), 1)


def test_else_it_has_the_least_stride_that_allows_no_second():
    text = DIRECT_TEXT.replace("2,4,13] = L[i0:2,i1:4,i2:13]", "2,4,1] = L[i0:2,i1:4,i2:1]").replace("r:3", "r:11")
    text = text.replace("select(1 <= i2+r < 14, x[i0,c,i2+r-1], 0.0)", "x[i0,c,r]").replace("4,6,3", "4,6,11")
    assert geometry_of(text) == Geometry(False, (3,), (0,), (1,), (0,), 1)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(1, 1, 1), (1, 5, 1), (5, 1, 1), (5, 5, 5)])
def test_axes_of_extent_one_are_no_obstacle(inputs: int, outputs: int, groups: int):
    made = convolution(2, False, outputs, inputs, kernel=(1, 3), padding=(0, 1), groups=groups)
    assert match_geometry(made.contraction()) == Geometry(False, (1, 1), (0, 1), (1, 1), (0, 0), groups)


DIRECT_TEXT = """program p(x: f32[2,6,13])
weight w: f32[4,6,3]
y: f32[2,4,13] = L[i0:2,i1:4,i2:13] sum[c:6,r:3]{ select(1 <= i2+r < 14, x[i0,c,i2+r-1], 0.0) * w[i1,c,r] }
return y
"""
ADJOINT_TEXT = """program p(x: f32[2,6,5])
weight w: f32[6,4,4]
y: f32[2,4,10] = L[i0:2,i1:4,i2:10] sum[c:6,t:2]{ select(0 <= (i2+1)//2-t < 5, x[i0,c,(i2+1)//2-t], 0.0) * w[c,i1,(i2+1)%2+2*t] }
return y
"""  # noqa: E501 - one stage is one line


def geometry_of(text: str) -> Geometry | str:
    (stage,) = parse_program(text).stages
    assert isinstance(stage, Compute)
    match = match_contraction(stage)
    assert isinstance(match, Contraction)
    return match_geometry(match if match.right.tensor.name == "w" else match.swapped())


def test_the_texts_below_are_near_misses_of_a_convolution_and_of_its_adjoint():
    assert geometry_of(DIRECT_TEXT) == Geometry(False, (1,), (1,), (1,), (0,), 1)
    assert geometry_of(ADJOINT_TEXT) == Geometry(True, (2,), (1,), (1,), (0,), 1)


NEAR_MISSES = [
    (
        "1 <= i2+r < 14, x[i0,c,i2+r-1]",
        "2 <= i2+r < 15, x[i0,c,i2+r-2]",
        "its padding is not the same before and behind",
    ),
    ("1 <= i2+r < 14", "2 <= i2+r < 14", "its guard is not that of padding by zeros"),
    ("1 <= i2+r < 14", "1 <= i2+r < 13", "its guard is not that of padding by zeros"),
    ("w[i1,c,r]", "w[i1,c,-r+2]", "the weight is not read whole as [filter, channel, taps]"),
    ("w: f32[4,6,3]", "w: f32[4,6,5]", "the weight is not read whole as [filter, channel, taps]"),
    ("w: f32[4,6,3]", "w: f32[8,6,3]", "the weight is not read whole as [filter, channel, taps]"),
    ("w: f32[4,6,3]", "w: f32[4,7,3]", "the weight is not read whole as [filter, channel, taps]"),
    ("x: f32[2,6,13]", "x: f32[3,6,13]", "its batch axis is indexed, or not read whole"),
    ("x[i0,c,", "x[-i0+1,c,", "its batch axis is indexed, or not read whole"),
    ("x[i0,c,", "x[i0,-c+5,", "its channels are read in another order"),
    ("sum[c:6,r:3]", "sum[c:6,r:3,q:2]", "a summed iterator reads neither operand"),
    ("x[i0,c,i2+r-1]", "x[i0,c,-i2-r+13]", "a spatial index is not stride*loop + dilation*tap - padding"),
]


@pytest.mark.parametrize(("old", "new", "reason"), NEAR_MISSES)
def test_what_is_nearly_a_convolution_is_refused(old: str, new: str, reason: str):
    assert old in DIRECT_TEXT
    assert geometry_of(DIRECT_TEXT.replace(old, new)) == reason


NO_ADJOINTS = [
    ("0 <= (i2+1)//2-t < 5", "1 <= (i2+1)//2-t < 5"),
    ("w: f32[6,4,4]", "w: f32[6,4,5]"),
    ("w: f32[6,4,4]", "w: f32[7,4,4]"),
    ("w: f32[6,4,4]", "w: f32[6,5,4]"),
    ("w[c,i1,(i2+1)%2+2*t]", "w[c,i1,-((i2+1)%2)-2*t+3]"),
    ("sum[c:6,t:2]", "sum[c:6,t:2,q:2]"),
    ("x: f32[2,6,5]", "x: f32[3,6,5]"),
]


@pytest.mark.parametrize(("old", "new"), NO_ADJOINTS)
def test_what_is_nearly_an_adjoint_is_refused(old: str, new: str):
    assert old in ADJOINT_TEXT
    assert isinstance(geometry_of(ADJOINT_TEXT.replace(old, new)), str)


def test_more_output_padding_than_torch_takes_is_refused():
    text = ADJOINT_TEXT.replace("y: f32[2,4,10]", "y: f32[2,4,13]").replace("i2:10", "i2:13")
    assert geometry_of(text) == "its output is cropped"
