from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from frontend.checking import check_lowering, check_table
from torch import randn

AUTO = torch.export.Dim.AUTO
_BATCH = {"mean": "batchmean"}
LOSSES = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "soft margin": F.soft_margin_loss,
    "hinge": F.hinge_embedding_loss,
    "poisson": F.poisson_nll_loss,
    "bce": lambda a, b, **r: F.binary_cross_entropy(a.sigmoid(), b.sigmoid(), **r),
    "bce logits": lambda a, b, **r: F.binary_cross_entropy_with_logits(a, b.sigmoid(), **r),
    "bce weights": lambda a, b, **r: F.binary_cross_entropy_with_logits(a, b.sigmoid(), pos_weight=b[0].abs(), **r),
    "kl": lambda a, b, reduction: F.kl_div(a.log_softmax(1), b.softmax(1), reduction=_BATCH.get(reduction, reduction)),
    "kl log": lambda a, b, **r: F.kl_div(a.log_softmax(1), b.log_softmax(1), reduction="sum", log_target=True),
    "triplet": lambda a, b, **r: F.triplet_margin_loss(a, b, a + b, **r),
    "ranking": lambda a, b, **r: F.margin_ranking_loss(a, b, b.sign(), **r),
    "cross entropy of portions": lambda a, b, **r: F.cross_entropy(a, b.softmax(1), **r),
}
CLASSES = {
    "cross entropy": F.cross_entropy,
    "nll": lambda a, t, **r: F.nll_loss(a.log_softmax(1), t, ignore_index=2, **r),
    "smoothed": lambda a, t, **r: F.cross_entropy(a, t, a[0].abs(), ignore_index=2, label_smoothing=0.1, **r),
    "multi margin": F.multi_margin_loss,
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction):
    def reduced(table):
        return {name: lambda a, b, f=f: f(a, b, reduction=reduction) for name, f in table.items()}

    check_table(reduced(LOSSES), randn(4, 5), randn(4, 5))
    check_table(reduced(CLASSES), randn(4, 5), torch.tensor([1, 2, 4, 0]))


def test_cross_entropy_of_images_and_of_run_time_extents():
    check_lowering(F.cross_entropy, randn(2, 5, 3, 4), torch.randint(0, 5, (2, 3, 4)))
    other = (randn(6, 5), torch.randint(0, 5, (6,)))
    check_lowering(
        F.cross_entropy, randn(4, 5), torch.tensor([1, 2, 4, 0]), dynamic=({0: AUTO}, {0: AUTO}), also=[other]
    )
