"""What stands between a model and torch.export."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules import transformer

from tpopt.errors import UnsupportedModel
from tpopt.frontend.capture import capture


class Translator(nn.Module):
    """Makes its causal mask, as users of ``nn.Transformer`` do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        size = target.shape[1]
        mask = torch.triu(torch.full((size, size), float("-inf")), 1)
        return self.body(source, target, tgt_mask=mask)


def test_a_causal_mask_is_exported_as_a_mask():
    model, inputs = Translator().eval(), (torch.randn(2, 5, 16), torch.randn(2, 7, 16))
    found = capture(model, inputs, {}, None)
    with torch.no_grad():
        torch.testing.assert_close(found.module()(*inputs), model(*inputs))
        later = torch.randn(2, 7, 16)
        torch.testing.assert_close(found.module()(inputs[0], later), model(inputs[0], later))


def test_masks_are_looked_at_again_after_a_capture():
    before = transformer._detect_is_causal_mask
    capture(nn.Linear(3, 3), (torch.randn(2, 3),), {}, None)
    assert transformer._detect_is_causal_mask is before


def test_a_decision_by_values_is_refused_with_a_way_out():
    class Decides(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.exp() if x.sum() > 0 else x

    with pytest.raises(UnsupportedModel, match=r'Decides: .*; torch\.compile\(model, backend="tpopt"\) optimizes'):
        capture(Decides(), (torch.randn(3),), {}, None)
