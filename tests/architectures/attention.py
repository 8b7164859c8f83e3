"""Transformers: shifted windows, GPT, and a decoder with rotary positions and grouped queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from architectures.seeding import Example, seeded


class ShiftedWindows(nn.Module):
    """Attention within square windows, which a roll shifts; a mask keeps apart what the roll brought together."""

    def __init__(self, dim: int = 24, heads: int = 3, size: int = 12, window: int = 4, shift: int = 2) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm, self.qkv, self.out = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.1)
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offset = grid[:, :, None] - grid[:, None, :] + window - 1
        self.register_buffer("relative", offset[0] * (2 * window - 1) + offset[1])
        region = (torch.arange(size) >= size - window).long() + (torch.arange(size) >= size - shift).long()
        regions = self.windows((3 * region[:, None] + region[None, :]).view(1, size, size, 1)).squeeze(-1)
        self.register_buffer("allowed", regions[:, :, None] == regions[:, None, :])

    def windows(self, x: Tensor) -> Tensor:
        """Cuts B×H×W×C into windows: (B·windows)×(window²)×C."""
        b, h, w, c = x.shape
        s = self.window
        return x.view(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        s = self.window
        y = self.windows(torch.roll(self.norm(x), (-self.shift, -self.shift), dims=(1, 2)))
        q, k, v = self.qkv(y).view(-1, s * s, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        scores = scores + self.bias[self.relative].permute(2, 0, 1)
        allowed = self.allowed.repeat(b, 1, 1)[:, None]
        y = scores.masked_fill(~allowed, -100.0).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, s * s, c))
        y = y.view(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return x + torch.roll(y, (self.shift, self.shift), dims=(1, 2))


class GPT(nn.Module):
    """Blocks of nn.TransformerEncoderLayer's parts with causal attention; the output shares the embedding."""

    def __init__(self, dim: int = 32, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.tokens, self.positions = nn.Embedding(97, dim), nn.Parameter(torch.randn(64, dim) * 0.1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(dim),
                    "qkv": nn.Linear(dim, 3 * dim),
                    "out": nn.Linear(dim, dim),
                    "norm2": nn.LayerNorm(dim),
                    "mlp": nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)),
                }
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        b, length = tokens.shape
        x = self.tokens(tokens) + self.positions[:length]
        for block in self.blocks:
            q, k, v = (
                part.view(b, length, self.heads, -1).transpose(1, 2)
                for part in block["qkv"](block["norm1"](x)).chunk(3, -1)
            )
            y = scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["out"](y.transpose(1, 2).flatten(2))
            x = x + block["mlp"](block["norm2"](x))
        return self.norm(x) @ self.tokens.weight.T


class RMSNorm(nn.Module):
    """Scales by the root of the mean square."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(dim) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Llama(nn.Module):
    """A decoder block: RMS norms, rotary positions, fewer key and value heads than queries, a gated perceptron."""

    def __init__(self, dim: int = 48, heads: int = 6, kv_heads: int = 2) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, dim // heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, kv_heads * self.size, bias=False)
        self.v = nn.Linear(dim, kv_heads * self.size, bias=False)
        self.o = nn.Linear(dim, dim, bias=False)
        self.gate, self.up = nn.Linear(dim, 80, bias=False), nn.Linear(dim, 80, bias=False)
        self.down = nn.Linear(80, dim, bias=False)
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.register_buffer("frequencies", 10000.0 ** (-torch.arange(0, self.size, 2) / self.size))

    def rotate(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[2], device=x.device)[:, None] * self.frequencies
        angles = torch.cat([angles, angles], dim=-1)
        low, high = x.chunk(2, dim=-1)
        return x * angles.cos() + torch.cat([-high, low], dim=-1) * angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        b, length, _ = x.shape
        y = self.norm1(x)
        q = self.rotate(self.q(y).view(b, length, self.heads, self.size).transpose(1, 2))
        k = self.rotate(self.k(y).view(b, length, self.kv_heads, self.size).transpose(1, 2))
        v = self.v(y).view(b, length, self.kv_heads, self.size).transpose(1, 2)
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, length, -1))
        y = self.norm2(x)
        return x + self.down(silu(self.gate(y)) * self.up(y))


class Mixture(nn.Module):
    """A mixture of experts: each token goes to its best two of four."""

    def __init__(self, dim: int = 20, hidden: int = 28, experts: int = 4, best: int = 2) -> None:
        super().__init__()
        self.best = best
        self.router = nn.Linear(dim, experts)
        self.up = nn.Parameter(torch.randn(experts, dim, hidden) * 0.2)
        self.down = nn.Parameter(torch.randn(experts, hidden, dim) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(self.best, dim=-1)
        gates = torch.zeros(x.shape[0], self.up.shape[0], dtype=x.dtype, device=x.device)
        gates = gates.scatter(1, chosen, weights / weights.sum(-1, keepdim=True))
        hidden = gelu(torch.einsum("td,edh->teh", x, self.up))
        return torch.einsum("teh,ehd,te->td", hidden, self.down, gates)


class Translator(nn.Module):
    """An encoder and a decoder of ``nn.Transformer``, which looks at its causal mask to see that it is one."""

    def __init__(self, words: int = 67, dim: int = 24) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(words, dim), nn.Linear(dim, words)
        self.body = nn.Transformer(dim, 4, 1, 1, 40, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        size = target.shape[1]
        mask = torch.triu(torch.full((size, size), float("-inf"), device=target.device), 1)
        return self.out(self.body(self.embed(source), self.embed(target), tgt_mask=mask))


@seeded
def shifted_windows() -> Example:
    return ShiftedWindows(), (torch.randn(2, 12, 12, 24),)


@seeded
def gpt() -> Example:
    return GPT(), (torch.randint(97, (2, 23)),)


@seeded
def llama() -> Example:
    return Llama(), (torch.randn(2, 19, 48),)


@seeded
def mixture_of_experts() -> Example:
    return Mixture(), (torch.randn(15, 20),)


@seeded
def translator() -> Example:
    return Translator(), (torch.randint(67, (2, 14)), torch.randint(67, (2, 9)))
