from __future__ import annotations

import pytest
import torch

from tpopt.frontend.effects import has_effects

aten = torch.ops.aten
X, H = torch.randn(3, 2, 4), torch.randn(1, 2, 5)
CALLS = {
    "a sum": (aten.add.Tensor, (X, X), {}, False),
    "a sum in place": (aten.add_.Tensor, (X, X), {}, True),
    "random numbers": (aten.bernoulli.default, (X,), {}, True),
    "dropout": (aten.dropout.default, (X, 0.5, True), {}, True),
    "dropout that is off": (aten.dropout.default, (X, 0.5, False), {}, False),
    "attention": (aten.scaled_dot_product_attention.default, (X, X, X), {}, False),
    "attention with dropout": (aten.scaled_dot_product_attention.default, (X, X, X), {"dropout_p": 0.1}, True),
    "a recurrent layer": (aten.gru.input, (X, H, [], True, 1, 0.3, False, False, False), {}, False),
    "a recurrent layer in training": (aten.gru.input, (X, H, [], True, 2, 0.3, True, False, False), {}, True),
    "leaky units": (aten.rrelu.default, (X,), {}, False),
    "leaky units in training": (aten.rrelu.default, (X, 0.1, 0.3, True), {}, True),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_effects_where_it_writes_or_draws(name: str):
    op, args, kwargs, effects = CALLS[name]
    assert has_effects(op, args, kwargs) is effects
