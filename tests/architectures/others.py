"""Graphs, spectra, recommenders, capsules, and control flow that depends on data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, gelu, leaky_relu, relu, silu

from architectures.seeding import Example, seeded

NODES, EDGES = 17, 41


class MessagePassing(nn.Module):
    """Messages along edges, added up where they arrive."""

    def __init__(self, dim: int = 12) -> None:
        super().__init__()
        self.message = nn.Linear(2 * dim, dim)
        self.update = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        messages = relu(self.message(torch.cat([x[source], x[target]], dim=-1)))
        received = torch.zeros_like(x).index_add(0, target, messages)
        return self.update(torch.cat([x, received], dim=-1)).tanh()


class GraphAttention(nn.Module):
    """A softmax over the edges that arrive at a node, by scattered maximum and sum."""

    def __init__(self, dim: int = 10, heads: int = 3, size: int = 8) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.project = nn.Linear(dim, heads * size, bias=False)
        self.from_source = nn.Parameter(torch.randn(heads, size))
        self.from_target = nn.Parameter(torch.randn(heads, size))

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        h = self.project(x).view(-1, self.heads, self.size)
        scores = (h * self.from_source).sum(-1)[source] + (h * self.from_target).sum(-1)[target]
        scores = leaky_relu(scores, 0.2)
        into = target[:, None].expand_as(scores)
        lowest = torch.full((x.shape[0], self.heads), float("-inf"), dtype=x.dtype)
        largest = lowest.scatter_reduce(0, into, scores, "amax")
        weights = (scores - largest[target]).exp()
        total = torch.zeros_like(largest).scatter_add(0, into, weights)
        weights = weights / total[target]
        out = torch.zeros_like(h).index_add(0, target, weights[..., None] * h[source])
        return elu(out.flatten(1))


class Spectral(nn.Module):
    """A convolution by multiplication in the frequency domain."""

    def __init__(self, channels: int = 6, modes: int = 5) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(channels, channels, modes, modes, dtype=torch.cfloat) / channels)
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        m = self.modes
        spectrum = torch.fft.rfft2(x, norm="ortho")
        mixed = torch.zeros_like(spectrum)
        mixed[..., :m, :m] = torch.einsum("bcxy,cdxy->bdxy", spectrum[..., :m, :m], self.weight)
        return gelu(torch.fft.irfft2(mixed, s=x.shape[-2:], norm="ortho") + self.skip(x))


class Recommender(nn.Module):
    """Bags of categories and dense features, their products in pairs, and a perceptron."""

    def __init__(self, dim: int = 8, sizes: tuple[int, ...] = (31, 53, 17)) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(size, dim, mode="sum") for size in sizes)
        self.bottom = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, dim), nn.ReLU())
        pairs = torch.tril_indices(len(sizes) + 1, len(sizes) + 1, offset=-1)
        self.register_buffer("rows", pairs[0])
        self.register_buffer("columns", pairs[1])
        self.top = nn.Sequential(nn.Linear(dim + pairs.shape[1], 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense: Tensor, categories: list[Tensor]) -> Tensor:
        x = self.bottom(dense)
        features = torch.stack([x, *(bag(ids) for bag, ids in zip(self.bags, categories, strict=True))], dim=1)
        products = torch.bmm(features, features.transpose(1, 2))[:, self.rows, self.columns]
        return self.top(torch.cat([x, products], dim=1)).sigmoid()


class Capsules(nn.Module):
    """Routing by agreement between two layers of capsules."""

    def __init__(self, capsules: int = 18, size: int = 6, classes: int = 5, out: int = 7, rounds: int = 3) -> None:
        super().__init__()
        self.rounds = rounds
        self.weight = nn.Parameter(torch.randn(capsules, classes, out, size) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        votes = torch.einsum("iodk,bik->biod", self.weight, squash(x))
        agreement = torch.zeros_like(votes[..., 0])
        outputs = torch.zeros_like(votes[:, 0])
        for _ in range(self.rounds):
            outputs = squash(torch.einsum("bio,biod->bod", agreement.softmax(-1), votes))
            agreement = agreement + torch.einsum("biod,bod->bio", votes, outputs)
        return outputs.norm(dim=-1)


def squash(x: Tensor) -> Tensor:
    square = x.square().sum(-1, keepdim=True)
    return square / (1 + square) * x / (square + 1e-8).sqrt()


class Halting(nn.Module):
    """Applies its layer until the state is small: how often depends on the data, so no trace can hold it."""

    def __init__(self, dim: int = 9) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(8):
            if x.abs().mean() < 0.3:
                break
            x = 0.7 * self.layer(x).tanh()
        return x


def edges() -> tuple[Tensor, Tensor]:
    """Draws the ends of edges; each node has at least an edge to itself."""
    loops = torch.arange(NODES)
    source, target = torch.randint(NODES, (2, EDGES)).unbind(0)
    return torch.cat([loops, source]), torch.cat([loops, target])


class Splines(nn.Module):
    """A layer whose every edge is a cubic spline of its input (Kolmogorov-Arnold)."""

    def __init__(self, inside: int, outside: int, pieces: int = 6, degree: int = 3) -> None:
        super().__init__()
        self.degree = degree
        knots = torch.arange(-degree, pieces + degree + 1) * (2 / pieces) - 1
        self.register_buffer("knots", knots)
        self.weight = nn.Parameter(torch.randn(outside, inside, pieces + degree) * 0.1)
        self.base = nn.Parameter(torch.randn(outside, inside) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        at, knots = x[..., None], self.knots
        basis = ((at >= knots[:-1]) & (at < knots[1:])).to(x.dtype)
        for k in range(1, self.degree + 1):
            rising = (at - knots[: -k - 1]) / (knots[k:-1] - knots[: -k - 1])
            falling = (knots[k + 1 :] - at) / (knots[k + 1 :] - knots[1:-k])
            basis = rising * basis[..., :-1] + falling * basis[..., 1:]
        return silu(x) @ self.base.T + torch.einsum("nik,oik->no", basis, self.weight)


class PointCloud(nn.Module):
    """Each point with its nearest neighbours, and what is largest over all of them."""

    def __init__(self, neighbours: int = 8, width: int = 32) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.edges = nn.Sequential(nn.Conv1d(6, width, 1), nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 1))
        self.points = nn.Sequential(nn.Conv1d(2 * width, width, 1), nn.BatchNorm1d(width), nn.ReLU())
        self.classes = nn.Linear(width, 10)

    def forward(self, points: Tensor) -> Tensor:
        n, count, _ = points.shape
        nearest = torch.cdist(points, points).topk(self.neighbours, largest=False).indices
        around = points[:, None].expand(n, count, count, 3).gather(2, nearest[..., None].expand(*nearest.shape, 3))
        centre = points[:, :, None].expand_as(around)
        pairs = torch.cat([around - centre, centre], -1).reshape(n, -1, 6).transpose(1, 2)
        local = self.edges(pairs).reshape(n, -1, count, self.neighbours).amax(-1)
        whole = local.amax(-1, keepdim=True).expand_as(local)
        return self.classes(self.points(torch.cat([local, whole], 1)).amax(-1))


@seeded
def message_passing() -> Example:
    return MessagePassing(), (torch.randn(NODES, 12), *edges())


@seeded
def graph_attention() -> Example:
    return GraphAttention(), (torch.randn(NODES, 10), *edges())


@seeded
def spectral_convolution() -> Example:
    return Spectral(), (torch.randn(2, 6, 20, 18),)


@seeded
def recommender() -> Example:
    ids = [torch.randint(size, (6, count)) for size, count in ((31, 4), (53, 1), (17, 3))]
    return Recommender(), (torch.randn(6, 13), ids)


@seeded
def capsules() -> Example:
    return Capsules(), (torch.randn(2, 18, 6),)


@seeded
def dynamic_control_flow() -> Example:
    return Halting(), (torch.randn(4, 9),)


@seeded
def splines() -> Example:
    return nn.Sequential(Splines(9, 16), Splines(16, 5)), (torch.rand(37, 9) * 2 - 1,)


@seeded
def point_cloud() -> Example:
    return PointCloud(), (torch.randn(2, 60, 3),)
