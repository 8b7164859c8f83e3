"""Small models, objectives on them, and their Hessians computed whole."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as f

from tpopt.sensitivity.objective import Objective, Weights


class Attention(nn.Module):
    """A head of torch's fused attention, which has no second derivative of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.mix(x).chunk(3, -1)
        return self.out(f.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0].mean(1))


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    return {
        "perceptron": (nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double(), (5,)),
        "convolution": (
            nn.Sequential(
                nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(27, 3)
            ).double(),
            (1, 5, 5),
        ),
        "attention": (Attention().double(), (4, 6)),
    }


NETWORKS = networks()


def data(
    shape: tuple[int, ...], sizes: tuple[int, ...] = (9, 9, 5)
) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    torch.manual_seed(1)
    return [((torch.randn(n, *shape, dtype=torch.float64),), torch.randint(3, (n,))) for n in sizes]


def objective(name: str, sizes: tuple[int, ...] = (9, 9, 5)) -> Objective:
    model, shape = NETWORKS[name]
    return Objective.of_module(model, f.cross_entropy, data(shape, sizes))


def flat(values: Weights) -> torch.Tensor:
    return torch.cat([v.reshape(-1) for v in values.values()])


def exact(o: Objective) -> torch.Tensor:
    """The whole Hessian by forward over reverse mode."""
    sizes = [w.numel() for w in o.weights.values()]

    def loss(x: torch.Tensor) -> torch.Tensor:
        parts = x.split(sizes)
        weights = {n: p.reshape(w.shape) for (n, w), p in zip(o.weights.items(), parts, strict=True)}
        return sum(s * o.at(weights, b) for s, b in zip(o.shares(), o.batches, strict=True))

    return torch.autograd.functional.hessian(loss, flat(o.weights))


def blocks(o: Objective, hessian: torch.Tensor) -> dict[str, torch.Tensor]:
    found, start = {}, 0
    for name, weight in o.weights.items():
        found[name] = hessian[start : start + weight.numel(), start : start + weight.numel()]
        start += weight.numel()
    return found
