"""Models that go through a sequence step by step: ``tpopt bench --suite recurrent`` times them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from zoo.seeding import Example, seeded, settle


class Tagger(nn.Module):
    """A label for each word: two layers of LSTMs in both directions (Huang, Xu, Yu, 2015)."""

    def __init__(self, words: int, width: int, states: int, labels: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.layers = nn.LSTM(width, states, 2, bidirectional=True, batch_first=True)
        self.labels = nn.Linear(2 * states, labels)

    def forward(self, words: Tensor) -> Tensor:
        labels: Tensor = self.labels(self.layers(self.embed(words))[0])
        return labels


class Reader(nn.Module):
    """A line of text from its image: convolutions, then an LSTM in both directions (Shi, Bai, Yao, 2015)."""

    def __init__(self, states: int = 128, letters: int = 37) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.layers = nn.LSTM(64 * 8, states, bidirectional=True)
        self.letters = nn.Linear(2 * states, letters)

    def forward(self, line: Tensor) -> Tensor:
        columns = self.columns(line).permute(3, 0, 1, 2).flatten(2)
        return self.letters(self.layers(columns)[0]).log_softmax(2)


class Speech(nn.Module):
    """Letters from a spectrum: a convolution, then two layers of GRUs in both directions (Amodei et al., 2016)."""

    def __init__(self, bands: int = 40, states: int = 96, letters: int = 29) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            nn.Conv2d(1, 16, (11, 5), (2, 2), (5, 2)), nn.BatchNorm2d(16), nn.Hardtanh(0.0, 20.0)
        )
        self.layers = nn.GRU(16 * bands // 2, states, 2, bidirectional=True, batch_first=True)
        self.letters = nn.Linear(2 * states, letters)

    def forward(self, spectrum: Tensor) -> Tensor:
        frames = self.frames(spectrum).permute(0, 3, 1, 2).flatten(2)
        return self.letters(self.layers(frames)[0]).log_softmax(-1)


class Forecast(nn.Module):
    """The next value of each of many series: one GRU, of which the last state counts."""

    def __init__(self, width: int = 8, states: int = 64) -> None:
        super().__init__()
        self.layer = nn.GRU(width, states, batch_first=True)
        self.next = nn.Linear(states, 1)

    def forward(self, series: Tensor) -> Tensor:
        following: Tensor = self.next(self.layer(series)[1][-1])
        return following


class Cells(nn.Module):
    """An LSTM cell in a loop of Python, as policies and decoders are written."""

    def __init__(self, width: int = 32, states: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.states, self.cell = states, nn.LSTMCell(width, states)
        self.classes = nn.Linear(states, classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[0], self.states)
        for step in range(x.shape[1]):
            hidden, cell = self.cell(x[:, step], (hidden, cell))
        classes: Tensor = self.classes(hidden)
        return classes


def tagger() -> Example:
    """Four sentences of 40 words, 100 states a direction."""
    with seeded(0):
        return settle(Tagger(1000, 64, 100, 20)), (torch.randint(1000, (4, 40)),)


def tagger_wide() -> Example:
    """16 sentences of 30 words, 512 states a direction: the weights of a direction have 4 MiB."""
    with seeded(0):
        return settle(Tagger(1000, 64, 512, 20)), (torch.randint(1000, (16, 30)),)


def reader() -> Example:
    """A line of 32 by 128 pixels."""
    with seeded(0):
        return settle(Reader()), (torch.randn(1, 1, 32, 128),)


def speech() -> Example:
    """Two spectra of 40 bands and 120 frames."""
    with seeded(0):
        return settle(Speech()), (torch.randn(2, 1, 40, 120),)


def forecast() -> Example:
    """64 series of 24 steps."""
    with seeded(0):
        return settle(Forecast()), (torch.randn(64, 24, 8),)


def cells() -> Example:
    """Eight sequences of 12 steps."""
    with seeded(0):
        return settle(Cells()), (torch.randn(8, 12, 32),)


ZOO: Final[Mapping[str, Callable[[], Example]]] = {
    f.__name__: f for f in (tagger, tagger_wide, reader, speech, forecast, cells)
}
"""Each model by name: a function that builds it, and the positional inputs of one call."""
