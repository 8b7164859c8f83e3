from __future__ import annotations

import pytest
import torch
from frontend.checking import check_lowering


def test_a_lowered_function_is_compared_with_torch():
    traced = check_lowering(torch.relu, torch.randn(3, 5), dynamic=True, also=[(torch.randn(7, 2),)])
    assert [type(s).__name__ for s in traced.algebra.stages] == ["Compute"]


def test_an_operator_that_stays_whole_fails_unless_it_is_expected():
    x = torch.tensor([0.0, 1.0])
    check_lowering(torch.nonzero, x, opaque=["aten.nonzero.default"])
    with pytest.raises(AssertionError, match=r"aten\.nonzero\.default"):
        check_lowering(torch.nonzero, x)
