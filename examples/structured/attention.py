"""Attention whose kernel has a structure, and operators that mix in another basis."""

from __future__ import annotations

from math import pi

import torch
from derivations.seeding import Example, draw, example, normal
from torch import Tensor
from torch.nn.functional import gelu, layer_norm


def kronecker_attention(batch: int = 4, heads: int = 4, width: int = 16, rows: int = 48, columns: int = 48) -> Example:
    """Attention between the means of an image's rows and columns (Gao, Wang and Ji, 2020): their result's outer sum.

    ``[batch, heads * width, rows, columns]`` to the same.
    """

    def attend(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        means = torch.cat([x.mean(3), x.mean(2)], dim=2)
        queries, keys, values = (torch.einsum("bct,cd->bdt", means, w).unflatten(1, (heads, width)) for w in (q, k, v))
        weights = torch.softmax(torch.einsum("bhct,bhcs->bhts", queries, keys) * width**-0.5, dim=-1)
        out = torch.einsum("bhts,bhcs->bhct", weights, values).flatten(1, 2)
        return out[:, :, :rows, None] + out[:, :, None, rows:]

    size = heads * width
    matrices = {name: draw(size, size, seed=s) for s, name in enumerate("qkv", 1)}
    return example(attend, (normal(batch, size, rows, columns),), **matrices)


def galerkin_attention(batch: int = 4, tokens: int = 2048, heads: int = 4, width: int = 32) -> Example:
    """Attention without a softmax, with norms of keys and values instead (Cao, 2021): keys times values first.

    ``[batch, tokens, heads * width]`` to the same.
    """

    def attend(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys, values = (torch.einsum("btc,cd->btd", x, w).unflatten(2, (heads, width)) for w in (q, k, v))
        keys, values = layer_norm(keys, (width,)), layer_norm(values, (width,))
        sums = torch.einsum("bthc,bthd->bhcd", keys, values) / tokens
        return torch.einsum("bthc,bhcd->bthd", queries, sums).flatten(2)

    size = heads * width
    matrices = {name: draw(size, size, seed=s) for s, name in enumerate("qkv", 1)}
    return example(attend, (normal(batch, tokens, size),), **matrices)


def axial_kernel(batch: int = 2, heads: int = 4, width: int = 16, size: int = 48) -> Example:
    """FactFormer's integral over a grid (Li, Shu and Barati Farimani, 2023): one kernel for each axis.

    ``[batch, size, size, heads * width]`` to the same. The kernel of an axis is the product of queries and keys of the
    mean over the other axis.
    """

    def integrate(x: Tensor, v: Tensor, **weights: Tensor) -> Tensor:
        kernels = []
        for axis in (1, 2):
            means = gelu(x.mean(3 - axis) @ weights[f"mean{axis}"])
            q, k = ((means @ weights[f"{n}{axis}"]).unflatten(2, (heads, width)) for n in "qk")
            kernels.append(torch.einsum("bihc,bjhc->bhij", q, k) / size)
        values = (x @ v).unflatten(3, (heads, width))
        return torch.einsum("bhij,bhkl,bjlhc->bikhc", kernels[0], kernels[1], values).flatten(3)

    wide = heads * width
    weights = {f"{n}{axis}": draw(wide, wide, seed=s) for s, n in enumerate(("mean", "q", "k"), 1) for axis in (1, 2)}
    return example(integrate, (normal(batch, size, size, wide),), v=draw(wide, wide, seed=7), **weights)


def transform_once(batch: int = 4, size: int = 64, modes: int = 20, width: int = 32, layers: int = 3) -> Example:
    """A block that works on the lowest frequencies of a cosine transform, which is taken once (Poli et al., 2022).

    ``[batch, width, size, size]`` to the same: into ``modes`` frequencies of each axis, ``layers`` mixtures of channels
    with a matrix for each frequency, and back.
    """

    def block(x: Tensor, basis: Tensor, **weights: Tensor) -> Tensor:
        y = torch.einsum("bcij,mi,nj->bcmn", x, basis, basis)
        for number in range(layers):
            y = y + gelu(torch.einsum("bcmn,cdmn->bdmn", y, weights[f"mix{number}"]))
        return torch.einsum("bcmn,mi,nj->bcij", y, basis, basis)

    weights = {f"mix{s}": draw(width, width, modes, modes, seed=s + 1) for s in range(layers)}
    return example(block, (normal(batch, width, size, size),), basis=cosines(size, modes), **weights)


def cosines(size: int, modes: int) -> Tensor:
    """The first rows of the orthonormal cosine transform: ``[modes, size]``."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * (pi / size)
    basis = torch.cos(torch.arange(modes, dtype=torch.float64)[:, None] * at) * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis.float()
