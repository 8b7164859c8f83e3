"""Recurrences and sequences: RNN cells in a loop, LSTM, dilated causal convolutions, a state space, sorting."""

from __future__ import annotations

import torch
from recurrent import Speech
from torch import Tensor, nn
from torch.nn.functional import glu, pad, relu, silu

from architectures.seeding import Example, seeded


class CellLoop(nn.Module):
    """An RNN cell, called once for each step."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.RNNCell(features, hidden)
        self.out = nn.Linear(hidden, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.shape[0], self.cell.hidden_size)
        steps = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            steps.append(self.out(h))
        return torch.stack(steps, dim=1), h


class Tagger(nn.Module):
    """A bidirectional LSTM of two layers over embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(101, 16)
        self.lstm = nn.LSTM(16, 24, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(tokens))
        return self.out(states).log_softmax(-1)


class CausalBlock(nn.Module):
    """A gated dilated convolution that sees the past only, with residual and skip."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.gated = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.mix = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gate = self.gated(pad(x, (self.dilation, 0))).chunk(2, dim=1)
        residual, skip = self.mix(value.tanh() * gate.sigmoid()).chunk(2, dim=1)
        return x + residual, skip


class WaveNet(nn.Module):
    """Causal blocks with doubling dilations, and the sum of their skips."""

    def __init__(self, channels: int = 16, blocks: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, channels, 1)
        self.blocks = nn.ModuleList(CausalBlock(channels, 2**i) for i in range(blocks))
        self.last = nn.Conv1d(channels, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total = torch.zeros_like(x)
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return self.last(relu(total))


class S4D(nn.Module):
    """A diagonal state space in complex numbers, stepped through time."""

    def __init__(self, channels: int = 12, states: int = 8) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.rand(channels) - 3)
        self.log_decay = nn.Parameter(torch.zeros(channels, states) - 0.7)
        self.frequency = nn.Parameter(torch.pi * torch.arange(states).repeat(channels, 1).float())
        self.c = nn.Parameter(torch.randn(channels, states, dtype=torch.cfloat))
        self.d = nn.Parameter(torch.randn(channels))
        self.out = nn.Linear(channels, channels)

    def forward(self, u: Tensor) -> Tensor:
        a = -self.log_decay.exp() + 1j * self.frequency
        step = (a * self.log_dt.exp()[:, None]).exp()
        drive = (step - 1) / a
        state = torch.zeros(u.shape[0], *a.shape, dtype=a.dtype, device=u.device)
        outputs = []
        for t in range(u.shape[1]):
            state = step * state + drive * u[:, t, :, None]
            outputs.append(2 * (self.c * state).sum(-1).real)
        return self.out(torch.stack(outputs, dim=1) + self.d * u)


class Ranker(nn.Module):
    """Sorts what a layer says, accumulates it, and gathers the features in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(11, 1)
        self.mix = nn.Linear(11, 11)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, order = self.score(x).squeeze(-1).sort(dim=-1, descending=True)
        ordered = self.mix(x).gather(1, order[..., None].expand_as(x))
        return scores.softmax(-1).cumsum(-1), ordered.cumsum(1)


class Conformer(nn.Module):
    """Half a feed-forward layer, attention, a gated depthwise convolution, the other half."""

    def __init__(self, dim: int = 48, heads: int = 4, kernel: int = 15) -> None:
        super().__init__()
        self.first, self.second = self._feed_forward(dim), self._feed_forward(dim)
        self.before_attention, self.before_convolution, self.last = (nn.LayerNorm(dim) for _ in range(3))
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.widen, self.narrow = nn.Conv1d(dim, 2 * dim, 1), nn.Conv1d(dim, dim, 1)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.first(x)
        y = self.before_attention(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        gated = glu(self.widen(self.before_convolution(x).transpose(1, 2)), 1)
        x = x + self.narrow(silu(self.norm(self.depthwise(gated)))).transpose(1, 2)
        return self.last(x + 0.5 * self.second(x))

    @staticmethod
    def _feed_forward(dim: int) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, dim))


@seeded
def rnn_cell_loop() -> Example:
    return CellLoop(6, 20), (torch.randn(3, 9, 6),)


@seeded
def lstm() -> Example:
    return Tagger(), (torch.randint(101, (2, 13)),)


@seeded
def wavenet() -> Example:
    return WaveNet(), (torch.randn(2, 1, 96),)


@seeded
def s4d() -> Example:
    return S4D(), (torch.randn(2, 14, 12),)


@seeded
def sort_and_cumsum() -> Example:
    return Ranker(), (torch.randn(3, 17, 11),)


@seeded
def speech() -> Example:
    return Speech(24, 20, 11), (torch.randn(2, 1, 24, 40),)


@seeded
def conformer() -> Example:
    return nn.Sequential(Conformer(), Conformer()), (torch.randn(2, 50, 48),)
