"""Products of several tensors."""

from __future__ import annotations

from math import factorial, pi, sqrt

import torch
from torch import Tensor

from derivations.seeding import Example, draw, example


def matrix_chain(n: int = 1024, m: int = 8) -> Example:
    """Two large matrices before a narrow one, through a transpose."""
    return example(lambda a, b, c: (a @ b.T).view(n, n) @ c, (draw(n, n), draw(n, n, seed=1), draw(n, m, seed=2)))


def linear_attention(heads: int = 1, tokens: int = 4096, width: int = 64) -> Example:
    """Attention without a softmax."""
    q, k, v = (draw(1, heads, tokens, width, seed=s) for s in range(3))
    return example(lambda q, k, v: (torch.relu(q) @ k.transpose(-1, -2)) @ v, (q, k, v))


def kronecker(a: int = 64, b: int = 64, columns: int = 4) -> Example:
    """A Kronecker product of two matrices times a matrix."""
    return example(
        lambda x, left, right: torch.kron(left, right) @ x, (draw(a * b, columns),),
        left=draw(a, a, seed=1), right=draw(b, b, seed=2),
    )  # fmt: skip


def gaunt(degree: int = 6, channels: int = 32) -> Example:
    """The product of two functions on the sphere by their coefficients."""
    return example(
        lambda x, y, g: torch.einsum("ijk,ui,uj->uk", g, x, y),
        (draw(channels, (degree + 1) ** 2), draw(channels, (degree + 1) ** 2, seed=1)), g=gaunt_tensor(degree),
    )  # fmt: skip


def clebsch_gordan(degree: int = 3, channels: int = 128) -> Example:
    """Features of many channels times one set of spherical harmonics, by a sparse constant tensor."""
    size = (degree + 1) ** 2
    return example(
        lambda x, y, c: torch.einsum("ijk,ui,j->uk", c, x, y), (draw(channels, size), draw(size, seed=1)),
        c=gaunt_tensor(degree),
    )  # fmt: skip


def self_product(degree: int = 3, channels: int = 64) -> Example:
    """Features times themselves by a dense constant tensor: each product of two components counts once."""
    size = (degree + 1) ** 2
    return example(
        lambda x, c: torch.einsum("ijk,ui,uj->uk", c, x, x), (draw(channels, size),), c=draw(size, size, size, seed=1)
    )


def cp_spectral(n: int = 16, inputs: int = 64, outputs: int = 64, modes: int = 288, rank: int = 16) -> Example:
    """A spectral convolution whose weight is a sum of rank-one tensors, put together before use."""

    def mix(x: Tensor, scale: Tensor, u: Tensor, v: Tensor, p: Tensor) -> Tensor:
        weight = torch.einsum("r,ir,or,mr->iom", scale, u, v, p)
        return torch.einsum("bim,iom->bom", x, weight)

    factors = (draw(rank, seed=1), draw(inputs, rank, seed=2), draw(outputs, rank, seed=3), draw(modes, rank, seed=4))
    return example(mix, (draw(n, inputs, modes), *factors))


def lora(n: int = 16, width: int = 4096, rank: int = 16) -> Example:
    """A weight and a low-rank correction of it."""
    return example(
        lambda x, w, a, b: x @ w + (x @ a) @ b, (draw(n, width),),
        w=draw(width, width, seed=1), a=draw(width, rank, seed=2), b=draw(rank, width, seed=3),
    )  # fmt: skip


def point_features(n: int = 2, points: int = 1024, own: int = 64, whole: int = 1024, outputs: int = 512) -> Example:
    """A layer on a point's features beside those of its cloud (Qi et al., 2017), which are put at every point."""

    def layer(x: Tensor, cloud: Tensor, w: Tensor) -> Tensor:
        return torch.cat([x, cloud[:, None].expand(-1, x.shape[1], -1)], dim=-1) @ w

    inputs = (draw(n, points, own), draw(n, whole, seed=1))
    return example(layer, inputs, w=draw(own + whole, outputs, seed=2))


def pair_features(nodes: int = 64, own: int = 64, pair: int = 16, outputs: int = 64) -> Example:
    """A message for each pair of nodes (Battaglia et al., 2016), from what both have and what the pair has."""

    def message(x: Tensor, edges: Tensor, w: Tensor) -> Tensor:
        both = x[:, None].expand(-1, len(x), -1), x[None].expand(len(x), -1, -1)
        return torch.cat([*both, edges], dim=-1) @ w

    inputs = (draw(nodes, own), draw(nodes, nodes, pair, seed=1))
    return example(message, inputs, w=draw(2 * own + pair, outputs, seed=2))


def small_sums(n: int = 512) -> Example:
    """A trace and a sum of products of matrices, of which only sums are needed."""
    return example(
        lambda a, b, d: torch.trace(a @ b) + (a @ b).sum() + (torch.diag(d) @ a).sum() + (a @ b).diagonal().sum(),
        (draw(n, n), draw(n, n, seed=1), draw(n, seed=2)),
    )


def vector_first(z: int = 64, i: int = 32, j: int = 48, k: int = 40) -> Example:
    """A batch of products of two matrices and a vector."""
    return example(
        lambda a, b, c: torch.einsum("zij,zjk,zk->zi", a, b, c),
        (draw(z, i, j), draw(z, j, k, seed=1), draw(z, k, seed=2)),
    )


def gaunt_tensor(degree: int) -> Tensor:
    """Integrals of products of three real spherical harmonics up to a degree, by exact quadrature."""
    nodes, weights = legendre(2 * degree + degree // 2 + 2)
    count = 4 * degree + 2
    phi = torch.arange(count, dtype=torch.float64) * (2 * pi / count)
    y = harmonics(degree, nodes[:, None].expand(-1, count), phi[None, :].expand(len(nodes), -1)).flatten(1)
    area = (weights[:, None] * (2 * pi / count)).expand(-1, count).flatten()
    g = torch.einsum("ip,jp,kp,p->ijk", y, y, y, area)
    return torch.where(g.abs() > 1e-9, g, 0.0).float()


def legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre's quadrature."""
    n = torch.arange(1, count, dtype=torch.float64)
    off = n / torch.sqrt(4 * n * n - 1)
    values, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return values, 2 * vectors[0] ** 2


def harmonics(degree: int, z: Tensor, phi: Tensor) -> Tensor:
    """Real orthonormal spherical harmonics, ``(degree+1)^2`` of them along the first axis."""
    s = torch.sqrt(torch.clamp(1 - z * z, min=0))
    p: dict[tuple[int, int], Tensor] = {(0, 0): torch.ones_like(z)}
    for m in range(1, degree + 1):
        p[m, m] = (2 * m - 1) * s * p[m - 1, m - 1]
    for m in range(degree):
        p[m + 1, m] = (2 * m + 1) * z * p[m, m]
    for m in range(degree + 1):
        for l in range(m + 2, degree + 1):
            p[l, m] = ((2 * l - 1) * z * p[l - 1, m] - (l + m - 1) * p[l - 2, m]) / (l - m)
    found = []
    for l in range(degree + 1):
        for m in range(-l, l + 1):
            k = abs(m)
            scale = sqrt((2 * l + 1) / (4 * pi) * factorial(l - k) / factorial(l + k)) * (sqrt(2) if m else 1)
            found.append(scale * p[l, k] * (torch.cos(k * phi) if m >= 0 else torch.sin(k * phi)))
    return torch.stack(found)
