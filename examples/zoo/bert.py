"""BERT encoder (Devlin et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from zoo.seeding import Example, seeded, settle


class BertLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a layer norm after it."""

    def __init__(self, hidden: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.attention_out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.intermediate = nn.Linear(hidden, feed_forward)
        self.output = nn.Linear(feed_forward, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        q, k, v = (
            project(x).view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        context = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden)
        x = self.attention_norm(x + self.attention_out(context))
        return self.output_norm(x + self.output(gelu(self.intermediate(x))))


def bert() -> Example:
    """Four layers of BERT-base (768, 12 heads, 3072) on the hidden states of 128 tokens."""
    with seeded(768):
        model = nn.Sequential(*(BertLayer(768, 12, 3072) for _ in range(4)))
        return settle(model), (torch.randn(1, 128, 768),)
