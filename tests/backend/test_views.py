from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.kernels import offer
from torch import Tensor
from torch.nn.functional import pad

X = torch.randn(3, 5, 8)
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "a permutation": lambda x: x.permute(2, 0, 1),
    "a slice": lambda x: x[1:, ::2, 3:],
    "a row": lambda x: x[:, 2],
    "a diagonal": lambda x: x.diagonal(0, 1, 2),
    "an expansion": lambda x: x[:, None].expand(3, 4, 5, 8),
    "a split axis": lambda x: x.view(3, 5, 2, 4),
    "windows": lambda x: x.unfold(2, 3, 2),
    "a window of one": lambda x: x[2:3, :, 5:6],
}


@pytest.mark.parametrize("name", VIEWS)
def test_an_affine_read_is_a_view_of_its_source(name: str):
    made = offer(VIEWS[name], X)
    (candidate,) = made.named("view")
    found = made.run(candidate)
    assert candidate.free
    assert torch.equal(found, made.expected())
    assert found.untyped_storage().data_ptr() == X.untyped_storage().data_ptr()


def test_it_follows_the_strides_of_its_source():
    made = offer(VIEWS["a slice"], X)
    (candidate,) = made.named("view")
    source = torch.randn(8, 5, 3).permute(2, 1, 0)[:, :, :]
    assert torch.equal(made.run(candidate, args_0=source), VIEWS["a slice"](source))
    assert torch.equal(made.run(candidate, args_0=torch.cat([X, X])[3:]), VIEWS["a slice"](X))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flip(0),
        lambda x: x.roll(1, 0),
        lambda x: x.reshape(15, 8),
        lambda x: pad(x, (1, 0)),
    ],
    ids=["backwards", "around the end", "two axes as one", "beyond the edge"],
)
def test_what_is_no_view_is_not_offered_as_one(function: Callable[[Tensor], Tensor]):
    assert offer(function, X, pipeline="none").named("view") == []
