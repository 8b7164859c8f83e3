from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.kernels import offer
from torch import Tensor
from torch.nn.functional import pad

X = torch.randn(3, 5, 8)
PADS: dict[str, Callable[[Tensor], Tensor]] = {
    "both ends": lambda x: pad(x, (2, 1, 0, 3)),
    "a cut": lambda x: pad(x, (-2, 1)),
    "a value": lambda x: pad(x, (1, 1), value=-float("inf")),
    "a permutation": lambda x: pad(x.permute(2, 0, 1), (1, 0, 2, 2)),
    "a slice": lambda x: pad(x[:, ::2, 1:], (0, 3)),
}


@pytest.mark.parametrize("name", PADS)
def test_a_box_with_a_constant_around_it_is_one_pad(name: str):
    made = offer(PADS[name], X)
    (candidate,) = made.named("pad")
    assert torch.equal(made.run(candidate), made.expected())


@pytest.mark.parametrize("function", [lambda x: x.tril(), lambda x: pad(x, (1, 1), mode="reflect")])
def test_what_is_no_box_is_not_offered_as_one(function: Callable[[Tensor], Tensor]):
    assert offer(function, X).named("pad") == []
