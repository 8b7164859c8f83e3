from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering
from torch import randn, tensor

INDICES, OFFSETS = tensor([1, 2, 4, 5, 4, 3, 2]), tensor([0, 4, 4, 6])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("padding", [None, 4, -3])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_at_offsets(mode, padding, dynamic):
    def bags(i, w, o):
        return F.embedding_bag(i, w, o, mode=mode, padding_idx=padding)

    check_lowering(bags, INDICES, randn(7, 3), OFFSETS, dynamic=dynamic and ({0: torch.export.Dim.AUTO}, None, None))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_empty_bags_and_bags_of_one_length(mode):
    check_lowering(lambda i, w, o: F.embedding_bag(i, w, o, mode=mode), INDICES, randn(7, 3), tensor([0, 7, 7]))
    last = {"mode": mode, "include_last_offset": True}
    check_lowering(lambda i, w, o: F.embedding_bag(i, w, o, **last), INDICES, randn(7, 3), tensor([0, 4, 7]))
    check_lowering(lambda i, w: F.embedding_bag(i, w, mode=mode), INDICES[:6].view(2, 3), randn(7, 3), dynamic=True)


def test_weights_of_samples_and_other_types():
    def weighted(i, w, o, p):
        return F.embedding_bag(i, w, o, mode="sum", per_sample_weights=p)

    check_lowering(weighted, INDICES, randn(7, 3), OFFSETS, randn(7))
    check_lowering(lambda i, w, o: F.embedding_bag(i, w, o), INDICES, randn(7, 3).bfloat16(), OFFSETS)


def test_what_only_its_gradient_needs_stays_whole():
    bags, target = torch.ops.aten._embedding_bag.default, "aten._embedding_bag.default"
    traced = check_lowering(lambda i, w, o: bags(w, i, o)[:2], INDICES, randn(7, 3), OFFSETS, opaque=[target])
    assert list(traced.reasons.values()) == ["what embedding_bag saves for its gradient is the kernel's own"]
