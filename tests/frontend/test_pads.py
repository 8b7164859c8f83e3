from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table, texts
from torch import randn

CONSTANT = [(1, 2), (1, 2, 3, 0), (-1, 2, 3, -2), (1, 0, 0, 2, 1, 1)]
AROUND = [
    ((3, 2), (2, 3, 7)),
    ((3, 2), (3, 7)),
    ((0, 4), (2, 3, 7)),
    ((-2, 3), (2, 3, 7)),
    ((6, 6), (2, 3, 7)),
    ((1, 2, 3, 0), (2, 3, 13, 11)),
    ((-2, -1, 2, -3), (2, 3, 13, 11)),
    ((1, 0, 2, 3), (3, 5, 7)),
    ((1, 2, 0, 3, 2, 1), (2, 3, 4, 5, 7)),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("pad", CONSTANT, ids=str)
def test_padding_by_a_constant(pad, dynamic):
    table = {"zero": lambda x: F.pad(x, pad), "value": lambda x: F.pad(x, pad, value=2.5)}
    check_table(table, randn(2, 3, 7, 5), dynamic=dynamic)


def test_padding_of_integers_and_bools():
    check_lowering(lambda x: F.pad(x, (1, 2), value=3), torch.randint(0, 9, (3, 5)))
    check_lowering(lambda x: F.pad(x, (1, 2), value=True), torch.randn(3, 5) > 0)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(("pad", "shape"), AROUND, ids=str)
def test_padding_from_the_tensor(pad, shape, mode, dynamic):
    check_lowering(lambda x: F.pad(x, pad, mode=mode), randn(shape), dynamic=dynamic)


def test_each_side_reads_by_an_index_of_its_own():
    traced = check_lowering(lambda x: F.pad(x, (1, 2), mode="reflect"), randn(3, 7))
    assert texts(traced) == [
        "L[i0:3,i1:10] select(0 <= i1 < 1, args_0[i0,-i1+1], select(1 <= i1 < 8, args_0[i0,i1-1], args_0[i0,-i1+13]))"
    ]
    assert texts(check_lowering(lambda x: F.pad(x, (1, 2), mode="circular"), randn(3, 7))) == [
        "L[i0:3,i1:10] args_0[i0,(i1+6)%7]"
    ]
