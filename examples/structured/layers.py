"""Layers in place of a matrix product: bilinear, in a tensor train, in a hyperbolic space."""

from __future__ import annotations

from math import prod

import torch
from derivations.seeding import Example, draw, example, normal
from torch import Tensor


def bilinear_mlp(tokens: int = 128, width: int = 512, hidden: int = 1024) -> Example:
    """Two products of the input multiplied with each other, instead of an activation (Pearce et al., 2024).

    ``[tokens, width]`` to the same.
    """
    return example(
        lambda x, w, v, p: ((x @ w) * (x @ v)) @ p, (normal(tokens, width),),
        w=draw(width, hidden, seed=1), v=draw(width, hidden, seed=2), p=draw(hidden, width, seed=3),
    )  # fmt: skip


def tensor_train_layer(tokens: int = 128, modes: tuple[int, ...] = (4, 8, 8, 4), rank: int = 8) -> Example:
    """A square matrix as a train of four cores, ``[rank, in, out, rank]`` each (Novikov et al., 2015), core by core."""
    ends = (1, *(rank,) * (len(modes) - 1), 1)
    cores = {f"core{s}": normal(ends[s], n, n, ends[s + 1], seed=s) / (n * rank) ** 0.5 for s, n in enumerate(modes)}

    def layer(x: Tensor, **cores: Tensor) -> Tensor:
        y = x.reshape(len(x), 1, *modes)  # rows, rank, what was not read yet, what was written
        for core in cores.values():
            y = torch.einsum("brn...,rnms->bs...m", y, core)
        return y.reshape(len(x), -1)

    return example(layer, (normal(tokens, prod(modes)),), **cores)


def hyperbolic_linear(rows: int = 256, width: int = 256) -> Example:
    """A matrix times points of the Poincare ball, and a translation there (Ganea, Becigneul and Hofmann, 2018).

    ``[rows, width]`` to the same, all of them inside the unit ball.
    """

    def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        y = x @ w
        before, after = x.norm(dim=-1, keepdim=True), y.norm(dim=-1, keepdim=True)
        y = torch.tanh(after / before * torch.atanh(before)) * y / after
        both, own, bias = (y * b).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True), (b * b).sum()
        return ((1 + 2 * both + bias) * y + (1 - own) * b) / (1 + 2 * both + own * bias)

    points = normal(rows, width)
    inside = 0.5 * points / points.norm(dim=-1, keepdim=True)
    return example(layer, (inside,), w=draw(width, width, seed=1), b=0.2 * draw(width, seed=2))
