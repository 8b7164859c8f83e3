"""Layers that commute with a group: rotations of space, orthogonal matrices, permutations."""

from __future__ import annotations

from itertools import combinations
from math import pi

import torch
from derivations.products import harmonics, legendre
from derivations.seeding import Example, draw, example, normal
from torch import Tensor


def gaunt_product(degree: int = 6, nodes: int = 16, channels: int = 32) -> Example:
    """The Gaunt tensor product (Luo, Chen and Krishnapriyan, 2024), by values on a grid of the sphere.

    Two features of each node and channel, ``[nodes, channels, (degree+1)^2]`` coefficients of spherical harmonics, are
    evaluated at points where quadrature is exact for products of three harmonics, multiplied, and taken back.
    """
    at, back = sphere_grid(degree)

    def product(x: Tensor, y: Tensor, at: Tensor, back: Tensor) -> Tensor:
        values = torch.einsum("uci,ip->ucp", x, at) * torch.einsum("ucj,jp->ucp", y, at)
        return torch.einsum("ucp,kp->uck", values, back)

    size = (degree + 1) ** 2
    inputs = (normal(nodes, channels, size), normal(nodes, channels, size, seed=1))
    return example(product, inputs, at=at, back=back)


def sphere_grid(degree: int) -> tuple[Tensor, Tensor]:
    """Harmonics up to a degree at the points of a grid, and those times the points' areas: ``[coefficient, point]``."""
    cosines, weights = legendre((3 * degree) // 2 + 1)
    count = 3 * degree + 1
    phi = torch.arange(count, dtype=torch.float64) * (2 * pi / count)
    at = harmonics(degree, cosines[:, None].expand(-1, count), phi[None, :].expand(len(cosines), -1)).flatten(1)
    area = (weights[:, None] * (2 * pi / count)).expand(-1, count).flatten()
    return at.float(), (at * area).float()


def so2_convolution(degree: int = 4, order: int = 2, edges: int = 256, channels: int = 32) -> Example:
    """The Clebsch-Gordan product of features with an edge's direction, reduced to SO(2) (Passaro and Zitnick, 2023).

    Features ``[edges, (degree+1)^2, channels]`` are turned by a matrix for each edge so that the edge is the axis; then
    coefficients of orders ``+m`` and ``-m`` mix with each other alone, over degrees and channels; and are turned back.
    """
    places = [[l * l + l + m for l in range(abs(m), degree + 1)] for m in range(-order, order + 1)]
    kept = [place for own in places for place in own]
    sizes = [len(own) * channels for own in places]

    def convolve(x: Tensor, turn: Tensor, **weights: Tensor) -> Tensor:
        turned = torch.einsum("epk,ekc->epc", turn[:, kept], x)
        parts = [p.flatten(1) for p in turned.split([len(own) for own in places], dim=1)]
        mixed = [parts[order] @ weights["zero"]]
        for m in range(1, order + 1):
            plus, minus, w, v = parts[order + m], parts[order - m], weights[f"even{m}"], weights[f"odd{m}"]
            mixed = [plus @ v + minus @ w, *mixed, plus @ w - minus @ v]
        rows = torch.cat([p.unflatten(1, (-1, channels)) for p in mixed], dim=1)
        return torch.einsum("epk,epc->ekc", turn[:, kept], rows)

    weights = {"zero": draw(sizes[order], sizes[order], seed=2)}
    for m in range(1, order + 1):
        size = sizes[order + m]
        weights |= {f"even{m}": draw(size, size, seed=2 * m + 1), f"odd{m}": draw(size, size, seed=2 * m + 2)}
    size = (degree + 1) ** 2
    turn = torch.linalg.qr(draw(edges, size, size, seed=1)).Q.contiguous()
    return example(convolve, (normal(edges, size, channels), turn), **weights)


def orthogonal_layer(n: int = 8, batch: int = 8, channels: int = 16) -> Example:
    """An O(n)-equivariant layer from tensors of order four to matrices, by Brauer diagrams (Pearce-Crump, 2023).

    ``[batch, channels, n, n, n, n]`` to ``[batch, channels, n, n]``: each of the 15 ways to pair the six axes is a map,
    an axis of the input with another a trace, with one of the output a copy, the output's two a multiple of the unit
    matrix. Channels are mixed after a map, where the tensor is small.
    """

    def layer(x: Tensor, unit: Tensor, w: Tensor) -> Tensor:
        maps = []
        for first, second in combinations(range(2, 6), 2):
            traced = x.diagonal(0, first, second).sum(-1)
            maps += [traced, traced.transpose(-1, -2)]
            if first == 2:
                total = traced.diagonal(0, -2, -1).sum(-1)
                maps.append(total[..., None, None] * unit)
        return sum((torch.einsum("bcij,cd->bdij", m, w[number]) for number, m in enumerate(maps)), torch.zeros(()))

    return example(
        layer, (draw(batch, channels, n, n, n, n),), unit=torch.eye(n), w=draw(15, channels, channels, seed=1)
    )


def permutation_layer(n: int = 64, batch: int = 8, channels: int = 16) -> Example:
    """The 15 linear maps of graphs' edge features that commute with renaming nodes (Maron et al., 2019), mixed.

    ``[batch, channels, n, n]`` to the same.
    """

    def layer(x: Tensor, unit: Tensor, w: Tensor) -> Tensor:
        diagonal = x.diagonal(0, -2, -1)
        rows, columns = x.mean(-1), x.mean(-2)
        trace, total = diagonal.mean(-1)[..., None, None], x.mean((-1, -2))[..., None, None]
        vectors = (diagonal, rows, columns)
        maps = [x, x.transpose(-1, -2)]
        for v in vectors:
            maps += [v[..., :, None] * unit, v[..., :, None].expand_as(x), v[..., None, :].expand_as(x)]
        maps += [trace * unit, trace.expand_as(x), total * unit, total.expand_as(x)]
        return torch.einsum("kbcij,kcd->bdij", torch.stack(maps), w)

    return example(layer, (normal(batch, channels, n, n),), unit=torch.eye(n), w=draw(15, channels, channels, seed=1))


def tensornet_product(atoms: int = 128, channels: int = 64) -> Example:
    """The interaction of TensorNet (Simeon and De Fabritiis, 2023) on 3x3 matrices, ``[atoms, channels, 3, 3]``.

    Features times messages in both orders, in parts that rotations keep apart: multiples of the unit matrix,
    antisymmetric, and symmetric without a trace, each scaled by the norm and mixed over channels.
    """

    def product(x: Tensor, message: Tensor, unit: Tensor, w: Tensor) -> Tensor:
        y = x @ message + message @ x
        y = y / ((y * y).sum((-1, -2), keepdim=True) + 1)
        transposed = y.transpose(-1, -2)
        scalar = y.diagonal(0, -2, -1).mean(-1)[..., None, None] * unit
        parts = torch.stack([scalar, (y - transposed) / 2, (y + transposed) / 2 - scalar])
        z = torch.einsum("kacij,kcd->adij", parts, w)
        return x + z + z @ z

    inputs = (normal(atoms, channels, 3, 3), normal(atoms, channels, 3, 3, seed=1))
    return example(product, inputs, unit=torch.eye(3), w=draw(3, channels, channels, seed=2))
