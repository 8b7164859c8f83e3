"""What ATen does in a call beyond reading its arguments and writing its results once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch


def _ordering(x: torch.Tensor, depth: int) -> int:
    return x.numel() * math.ceil(math.log2(max(2, depth)))


def _passes(count: int) -> Callable[..., int]:
    """Operators whose loops go over the input several times."""
    return lambda x, *_rest: count * x.numel()


INNER_WORK: Mapping[str, Callable[..., int]] = MappingProxyType(
    {
        "aten.sort.default": lambda x, *_r: _ordering(x, x.shape[-1]),
        "aten.topk.default": lambda x, k, *_r: _ordering(x, k + 1),
        "aten._cdist_forward.default": lambda a, b, *_r: a.shape[0] * b.numel(),
        "aten._pdist_forward.default": lambda x, *_r: x.shape[0] * x.numel() // 2,
        "aten.argsort.stable": lambda x, *_r: _ordering(x, x.shape[-1]),
        "aten._euclidean_dist.default": lambda a, b, *_r: a.shape[0] * b.numel(),
        "aten._fft_r2c.default": lambda x, *_r: _ordering(x, x.shape[-1]),
        "aten._fft_c2r.default": lambda x, _d, _n, last: x.shape[0] * last * math.ceil(math.log2(last)),
        "aten.avg_pool2d.default": lambda x, *_r: 9 * x.numel() // 4,
        "aten.max_pool2d_with_indices.default": lambda x, *_r: 9 * x.numel() // 4,
        "aten.grid_sampler_2d.default": lambda x, g, *_r: (4 * x.shape[1] + 8) * g.numel() // 2,
        "aten.upsample_bilinear2d.vec": lambda x, *_r: 4 * 4 * x.numel(),
        "aten.grid_sampler.default": lambda x, g, *_r: (4 * x.shape[1] + 8) * g.numel() // 2,
        "aten.upsample_linear1d.vec": lambda x, *_r: 2 * 2 * x.numel(),
        "aten.upsample_bicubic2d.vec": lambda x, *_r: 16 * 2 * x.numel(),
        "aten.upsample_trilinear3d.vec": lambda x, *_r: 8 * 2 * x.numel(),
        "aten._scaled_dot_product_flash_attention_for_cpu.default": lambda q, k, *_r: 2 * q.numel() * k.shape[2],
        "aten.lstm.input": lambda x, _s, weights, *_r: x.shape[0] * x.shape[1] * sum(w.numel() for w in weights),
        "aten.var.correction": _passes(2),  # a mean and a sum of squares
        "aten.var.dim": _passes(2),
        "aten._softmax.default": _passes(3),  # a maximum, a sum and a map
        "aten._log_softmax.default": _passes(3),
        "aten._native_batch_norm_legit.default": _passes(3),  # two moments and a map
        "aten._native_batch_norm_legit.no_stats": _passes(3),
        "aten.native_group_norm.default": _passes(3),
        "aten.native_layer_norm.default": _passes(3),
        "aten.native_layer_norm_backward.default": _passes(5),  # two sums over rows, a map, and one sum a parameter
    }
)
"""Steps of ATen's own inner loops on our own samples, where they are more than elements read and written."""
