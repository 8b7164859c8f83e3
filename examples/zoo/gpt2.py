"""GPT-2 (Radford et al., 2019): reading a prompt, and writing one token with the keys and values kept so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from zoo.seeding import Example, seeded, settle

HIDDEN, HEADS, LAYERS = 768, 12, 4
Cache = tuple[Tensor, Tensor]
"""Keys and values of one layer, each N×heads×length×(hidden / heads)."""


class Block(nn.Module):
    """Causal self-attention and a perceptron, each with a layer norm before it and a residual around it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(hidden)
        self.c_attn = nn.Linear(hidden, 3 * hidden)
        self.c_proj = nn.Linear(hidden, hidden)
        self.ln_2 = nn.LayerNorm(hidden)
        self.c_fc = nn.Linear(hidden, 4 * hidden)
        self.c_out = nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        batch, length, hidden = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(hidden, dim=2)
        )
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
        y = scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x = x + self.c_proj(y.transpose(1, 2).reshape(batch, length, hidden))
        x = x + self.c_out(gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return x, (k, v)


class GPT2(nn.Module):
    """Token ids N×T to hidden states N×T×hidden, and the cache of each layer.

    With caches, one for each layer, the tokens follow those that the caches hold; then T is 1.
    """

    def __init__(self, vocabulary: int = 50257, context: int = 1024) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, HIDDEN)
        self.wpe = nn.Embedding(context, HIDDEN)
        self.blocks = nn.ModuleList(Block(HIDDEN, HEADS) for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(HIDDEN)

    def forward(self, tokens: Tensor, caches: list[Cache] | None = None) -> tuple[Tensor, list[Cache]]:
        start = 0 if caches is None else caches[0][0].shape[2]
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)
        extended = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, None if caches is None else caches[i])
            extended.append(cache)
        return self.ln_f(x), extended


def gpt2_prefill() -> Example:
    """Four blocks of GPT-2 small read a prompt of 128 tokens."""
    with seeded(128):
        return settle(GPT2()), (torch.randint(50257, (1, 128)),)


def gpt2_decode() -> Example:
    """Four blocks of GPT-2 small write one token after 512 that are kept in a cache."""
    with seeded(512):
        model = settle(GPT2())
        shape = (1, HEADS, 512, HIDDEN // HEADS)
        caches = [(torch.randn(shape), torch.randn(shape)) for _ in range(LAYERS)]
        return model, (torch.randint(50257, (1, 1)), caches)
